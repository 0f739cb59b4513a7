"""Decoders by name. Each architecture has a file."""

from segzoo.models.decoders.base import Decoder
from segzoo.models.decoders.deconvnet import DeconvNet
from segzoo.models.decoders.deeplab_largefov import DeepLabLargeFOV
from segzoo.models.decoders.fcn import FCN
from segzoo.models.decoders.fcn_skip import FCN8s, FCN16s, FCN32s
from segzoo.models.decoders.segnet import SegNet
from segzoo.models.decoders.unet import UNet

DECODERS: dict[str, type[Decoder]] = {
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn": FCN,
    "unet": UNet,
    "segnet": SegNet,
    "deconvnet": DeconvNet,
    "deeplab_largefov": DeepLabLargeFOV,
}

__all__ = ["DECODERS", "Decoder"]
