"""The originals, to the letter: one paper a file, one dict of classes."""

from segzoo.papers.base import Paper
from segzoo.papers.segnet_basic import SegNetBasic

PAPERS: dict[str, type[Paper]] = {
    "paper/segnet_basic": SegNetBasic,
}

__all__ = ["PAPERS", "Paper"]
