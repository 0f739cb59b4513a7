"""Names that can be looked up without torch: of decoders, of papers' networks, of what these take.

The classes behind them are in `segzoo.models.decoders` and `segzoo.models.papers`, which take seconds to import; a
command refuses a misspelled name before that.
"""

from collections.abc import Mapping

from segzoo.errors import OptionError, UnknownNameError, unknown

_SESSION = ("tile", "overlap", "tta")
"""What `segzoo.inference.Session.predict` takes."""

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
"""Decoders, each with the encoder of its own."""

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
"""Papers' whole networks."""

UPSAMPLES: tuple[str, ...] = ("bilinear", "nearest", "transposed", "upconv", "unpool")
"""Ways up; each decoder takes some of them."""

SOURCES: tuple[str, ...] = ("torchvision", "smp")
"""Libraries whose checkpoints `segzoo.convert` reads."""

PREDICT_OPTIONS: dict[str, tuple[str, ...]] = {
    "samples": ("paper/bayesian_segnet", "paper/bayesian_segnet_basic"),
    "tile": ("paper/unet", "paper/unet_caffe"),
}
"""What `predict` takes besides the image, each with the networks that have it."""


def unknown_decoder(name: str) -> UnknownNameError:
    """The error for what is no decoder and no paper's network."""
    known = f"Decoders are {', '.join(DECODERS)}; papers' networks {', '.join(PAPERS)}."
    return unknown("decoder", name, [*DECODERS, *PAPERS], known)


def unknown_source(name: str) -> UnknownNameError:
    """The error for what is no library that `segzoo.convert` reads from."""
    return unknown("source", name, SOURCES, f"Sources are {', '.join(SOURCES)}.")


def unknown_upsample(name: str) -> UnknownNameError:
    """The error for what is no way up."""
    return unknown("upsample", name, UPSAMPLES, f"The ways up are {', '.join(UPSAMPLES)}.")


def check_predict_options(decoder: str, given: Mapping[str, object]) -> None:
    """Refuses options that a network's `predict` does not have.

    Raises:
        OptionError: for the first of them; it says which networks have it, and what an exported file can do.
    """
    for option in given:
        message = f"predict of {decoder!r} takes no {option}=."
        if option in PREDICT_OPTIONS:
            message += f" {' and '.join(PREDICT_OPTIONS[option])} take it."
        if option in _SESSION:
            message += (
                f" For any network, segzoo.export(model, 'model.onnx', logits=True) writes a file, and "
                f"segzoo.inference.Session('model.onnx').predict(image, {option}=...) takes it."
            )
        raise OptionError(message)
