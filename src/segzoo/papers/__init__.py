"""The originals, to the letter: one paper a file, one dict of classes."""

from segzoo.papers.base import Paper
from segzoo.papers.deconvnet import DeconvNet
from segzoo.papers.deeplab_largefov import DeepLabLargeFOV
from segzoo.papers.fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s
from segzoo.papers.segnet_basic import SegNetBasic

PAPERS: dict[str, type[Paper]] = {
    "paper/fcn32s": FCN32s,
    "paper/fcn16s": FCN16s,
    "paper/fcn8s": FCN8s,
    "paper/fcn8s_atonce": FCN8sAtOnce,
    "paper/segnet_basic": SegNetBasic,
    "paper/deconvnet": DeconvNet,
    "paper/deeplab_largefov": DeepLabLargeFOV,
}

__all__ = ["PAPERS", "Paper"]
