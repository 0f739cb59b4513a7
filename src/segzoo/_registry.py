"""Names that can be looked up without torch: decoders, networks from papers, upsampling modes.

The classes are in `segzoo.models.decoders` and `segzoo.models.papers`, which take seconds to import. With this table a
command rejects a misspelled name before that.
"""

from segzoo.errors import UnknownNameError, unknown

DECODERS: dict[str, str] = {
    "fcn32s": "vgg16",
    "fcn16s": "vgg16",
    "fcn8s": "vgg16",
    "fcn": "resnet50",
    "unet": "unet",
    "segnet": "vgg16_bn",
    "deconvnet": "vgg16_bn",
    "deeplab_largefov": "vgg16",
}
"""Decoders, each with its default encoder."""

PAPERS: tuple[str, ...] = (
    "paper/fcn32s",
    "paper/fcn16s",
    "paper/fcn8s",
    "paper/fcn8s_atonce",
    "paper/unet",
    "paper/unet_caffe",
    "paper/segnet",
    "paper/segnet_basic",
    "paper/bayesian_segnet",
    "paper/bayesian_segnet_basic",
    "paper/deconvnet",
    "paper/deeplab_largefov",
    "paper/xception_unet",
    "paper/conv_deconv",
)
"""Complete networks from papers."""

UPSAMPLE_MODES: tuple[str, ...] = ("bilinear", "nearest", "transposed", "upconv", "unpool")
"""Upsampling modes; each decoder supports some of them."""

CONVERTERS: tuple[str, ...] = ("torchvision", "smp")
"""Libraries whose checkpoints `segzoo.convert` reads."""


def unknown_decoder(name: str) -> UnknownNameError:
    """The error for a name that is neither a decoder nor a network from a paper."""
    known = f"Decoders are {', '.join(DECODERS)}; networks from papers are {', '.join(PAPERS)}."
    return unknown("decoder", name, [*DECODERS, *PAPERS], known)


def unknown_source(name: str) -> UnknownNameError:
    """The error for a library that `segzoo.convert` cannot read from."""
    return unknown("source", name, CONVERTERS, f"Sources are {', '.join(CONVERTERS)}.")


def unknown_upsample_mode(name: str) -> UnknownNameError:
    """The error for an unknown upsampling mode."""
    return unknown("upsampling mode", name, UPSAMPLE_MODES, f"The upsampling modes are {', '.join(UPSAMPLE_MODES)}.")
