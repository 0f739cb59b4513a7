"""Complete networks as published, one paper per file. `PAPERS` maps their names to their classes."""

from segzoo.models.papers.base import Paper
from segzoo.models.papers.bayesian_segnet import BayesianSegNet
from segzoo.models.papers.bayesian_segnet_basic import BayesianSegNetBasic
from segzoo.models.papers.conv_deconv import ConvDeconv
from segzoo.models.papers.deconvnet import DeconvNet
from segzoo.models.papers.deeplab_largefov import DeepLabLargeFOV
from segzoo.models.papers.fcn import FCN8s, FCN8sAtOnce, FCN16s, FCN32s
from segzoo.models.papers.segnet import SegNet
from segzoo.models.papers.segnet_basic import SegNetBasic
from segzoo.models.papers.unet import UNet, UNetCaffe
from segzoo.models.papers.xception_unet import XceptionUNet

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
