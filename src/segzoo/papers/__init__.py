"""The originals, to the letter: one paper a file, one dict of classes."""

from segzoo.papers.base import Paper
from segzoo.papers.bayesian_segnet import BayesianSegNet
from segzoo.papers.bayesian_segnet_basic import BayesianSegNetBasic
from segzoo.papers.conv_deconv import ConvDeconv
from segzoo.papers.deconvnet import DeconvNet
from segzoo.papers.deeplab_largefov import DeepLabLargeFOV
from segzoo.papers.fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s
from segzoo.papers.segnet import SegNet
from segzoo.papers.segnet_basic import SegNetBasic
from segzoo.papers.unet import UNet, UNetCaffe
from segzoo.papers.xception_unet import XceptionUNet

PAPERS: dict[str, type[Paper]] = {
    "paper/fcn32s": FCN32s,
    "paper/fcn16s": FCN16s,
    "paper/fcn8s": FCN8s,
    "paper/fcn8s_atonce": FCN8sAtOnce,
    "paper/unet": UNet,
    "paper/unet_caffe": UNetCaffe,
    "paper/segnet": SegNet,
    "paper/segnet_basic": SegNetBasic,
    "paper/bayesian_segnet": BayesianSegNet,
    "paper/bayesian_segnet_basic": BayesianSegNetBasic,
    "paper/deconvnet": DeconvNet,
    "paper/deeplab_largefov": DeepLabLargeFOV,
    "paper/xception_unet": XceptionUNet,
    "paper/conv_deconv": ConvDeconv,
}

__all__ = ["PAPERS", "Paper"]
