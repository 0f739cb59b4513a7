"""`create`: a model by name."""

import os
from pathlib import Path
from typing import Any

from segzoo._arguments import explained
from segzoo._registry import required_plugins
from segzoo.classes import ClassSet, class_set
from segzoo.errors import OptionError, PairingError
from segzoo.models.base import SegmentationModel
from segzoo.models.build import build, classes_for, network_class
from segzoo.models.decoders import DECODERS
from segzoo.models.papers import PAPERS, Paper
from segzoo.schema import check_options, whole_number
from segzoo.spec import ModelSpec
from segzoo.weights.catalog import entries
from segzoo.weights.resolve import locate


@explained
def create(
    decoder: str,
    encoder: str | None = None,
    num_classes: int | None = None,
    *,
    in_channels: int | None = None,
    encoder_weights: str | os.PathLike[str] | None = None,
    output_stride: int | None = None,
    classes: str | ClassSet | None = None,
    **options: Any,
) -> SegmentationModel:
    """Builds a model by name, with random weights unless `encoder_weights` is given.

    Args:
        decoder: "fcn32s", "fcn16s", "fcn8s", "fcn", "unet", "segnet", "deconvnet", "deeplab_largefov"; or the name of
            a complete network from a paper, such as "paper/fcn8s" (`list_models`).
        encoder: "vgg16", "resnet101", "xception", "mobilenet", or any timm name that forms a pyramid
            (`list_encoders`); None takes the decoder's default. A paper's network takes no encoder.
        num_classes: at least 2, including the background. None takes the number of `classes`; without these, the
            paper's number for a paper's network, and 21 for anything else.
        in_channels: channels of the image, 1 to 16. None takes the paper's number for a paper's network, else 3.
        encoder_weights: None, "imagenet" (timm's weights, downloaded), a timm tag ("a1_in1k"), the path of a timm or
            torchvision file, or a segzoo model with this encoder: its path or its catalog key. With VGG they also
            initialize the decoder's fc6 and fc7, if it has them. They also initialize the VGG16 of a paper's network,
            which then normalizes images as these weights expect.
        output_stride: stride of the encoder's deepest map, 8, 16 or 32; None takes the decoder's default.
        classes: a `ClassSet` or the name of one, such as "camvid" or "voc"; None names the classes "class 0" and so on.
        options: options of the decoder, such as upsample="bilinear" or auxiliary=True.

    Returns:
        a model in training mode, like any new torch module.

    Raises:
        UnknownNameError: an unknown name or option; similar ones are suggested.
        OptionError: an argument has an invalid value.
        PairingError: encoder and decoder cannot work together; the message names a pairing that works.
        DownloadError, CheckpointError: the encoder's weights cannot be loaded, or do not fit.
    """
    network = network_class(decoder)
    if encoder_weights is not None and not isinstance(encoder_weights, str | os.PathLike):
        raise OptionError(
            f"encoder_weights must be None, 'imagenet', a timm tag or the path of a file, not {encoder_weights!r}."
        )
    if encoder_weights is not None and _is_model(encoder_weights):
        encoder_weights = locate(encoder_weights).path
    encoder_weights = None if encoder_weights is None else os.fspath(encoder_weights)
    if encoder is not None and not isinstance(encoder, str):
        raise OptionError(
            f"encoder must be a name such as 'resnet101', not {encoder!r}. num_classes= is the number of classes."
        )
    check_options(decoder, network, options)
    classes = resolve_classes(classes)
    if issubclass(network, Paper):
        arguments = {"encoder": encoder, "output_stride": output_stride}
        given = [name for name, value in arguments.items() if value is not None]
        if given:
            raise PairingError(f"{decoder!r} is a complete network: it takes no {' and no '.join(given)}.")
        default_classes, default_channels = network.default_num_classes, network.default_in_channels
    else:
        encoder = network.default_encoder if encoder is None else encoder
        output_stride = (
            network.output_strides[0] if output_stride is None else whole_number("output_stride", output_stride)
        )
        default_classes, default_channels = 21, 3
    if num_classes is None:
        num_classes = default_classes if classes is None else len(classes)
    in_channels = default_channels if in_channels is None else whole_number("in_channels", in_channels)
    spec = ModelSpec(
        decoder=decoder,
        encoder=encoder,
        classes=classes_for(whole_number("num_classes", num_classes), classes),
        in_channels=in_channels,
        output_stride=output_stride,
        options=options,
        requires=required_plugins(decoder, encoder),
    )
    return build(spec, encoder_weights)


def list_models() -> list[str]:
    """Valid first arguments of `create`: the names of the decoders, then of the papers' networks."""
    return [*DECODERS, *PAPERS]


def resolve_classes(classes: Any) -> ClassSet | None:
    """The class set that an argument `classes` stands for.

    Raises:
        UnknownNameError: there is no class set of that name.
        OptionError: it is neither a name nor a class set.
    """
    if isinstance(classes, str):
        return class_set(classes)
    if classes is not None and not isinstance(classes, ClassSet):
        raise OptionError(f"classes must be the name of a class set or a segzoo.ClassSet, not {classes!r}.")
    return classes


def _is_model(encoder_weights: str | os.PathLike[str]) -> bool:
    """Whether these are a folder or a catalog key, or look like a key, so that `locate` can suggest similar ones."""
    path = Path(encoder_weights)
    like_a_key = isinstance(encoder_weights, str) and len(path.parts) == 3 and not (path.is_absolute() or path.suffix)
    return encoder_weights in entries() or path.is_dir() or (like_a_key and not path.exists())
