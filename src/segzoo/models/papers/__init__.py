"""Complete networks as published, one paper per file; `segzoo._registry` lists them."""

from collections.abc import Mapping

from segzoo import _registry
from segzoo.models.papers.base import Paper

PAPERS: Mapping[str, type[Paper]] = _registry.PAPERS.objects

__all__ = ["PAPERS", "Paper"]
