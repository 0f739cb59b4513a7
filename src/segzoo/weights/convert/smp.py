"""Converts segmentation-models-pytorch's Unet to segzoo's `unet`, with options that make it the same network.

Supported encoders: torchvision's ResNets, ResNeXts, VGGs and MobileNetV2, and any encoder of timm, which smp calls
"tu-...". The decoder reaches full size in five steps of nearest-neighbor interpolation, and the head is a 3x3
convolution. Source: `segmentation_models_pytorch/decoders/unet`, MIT, versions 0.5 and 0.6.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segzoo._text import read_json
from segzoo.errors import CheckpointError, OptionError, shown, some
from segzoo.weights.convert.base import IMAGENET, ConvertedCheckpoint, resnet_name, shape_of

KNOWN = "segmentation-models-pytorch's Unet on ResNet, ResNeXt, VGG, mobilenet_v2 and tu- encoders"
"""The supported models, for messages."""

_TIMM_NAMES = {"mobilenet_v2": "mobilenetv2_100"}

_VGG = {8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"}
"""Names of the VGGs by their number of convolutions."""

_MOBILENET = tuple((stage, block) for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)) for block in range(count))
"""Stage and index in the stage of each inverted residual, as timm counts them; torchvision counts them from 1."""

_DEPTHWISE = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
_INVERTED = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}
"""torchvision's layer numbers -> timm's names, for the first residual, which does not expand, and for all others."""

_TIMM = "encoder.model."
"""Prefix of the tensors of a "tu-" encoder."""

_CENTERS = {"decoder.center.0.0.weight": "convs", "encoder.features.18.0.weight": "expand"}
"""A tensor that VGG or MobileNetV2 has between encoder and decoder -> the option `center` of segzoo's unet."""

_INTERPOLATIONS = ("nearest", "bilinear")

_SETTINGS = {
    *("encoder_name", "encoder_depth", "encoder_weights", "in_channels", "classes", "activation", "aux_params"),
    *("decoder_use_norm", "decoder_use_batchnorm", "decoder_channels", "decoder_attention_type"),
    "decoder_interpolation",
}
"""Settings in config.json that this module knows."""

_NORMS = ("batchnorm", True, {"type": "batchnorm"}, None)
"""Values of decoder_use_norm and decoder_use_batchnorm that mean batch normalization."""

_ACTIVATIONS = (None, "identity", "sigmoid", "softmax", "softmax2d", "logsoftmax", "tanh", "argmax", "argmax2d")
"""Activations that can be dropped, since none of them changes which class wins."""


def matches(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of smp's Unet, and not of one of its other decoders."""
    return {"segmentation_head.0.weight", "decoder.blocks.0.conv1.0.weight"} <= tensors.keys()


def settings(folder: Path) -> dict[str, Any]:
    """The settings in the config.json that `save_pretrained` writes. No path in it is ever followed.

    Raises:
        CheckpointError: the file is missing or damaged, or describes a model that segzoo's unet cannot express.
    """
    file = folder / "config.json"
    try:
        config = read_json(file)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"Cannot read {file}: {error}. save_pretrained writes it with the weights.") from error
    if not isinstance(config, dict) or not isinstance(config.get("encoder_name"), str):
        raise CheckpointError(f"{file} was not written by segmentation-models-pytorch's save_pretrained.")
    if config.get("_model_class", "Unet") != "Unet":
        raise CheckpointError(f"{file} describes a {shown(config['_model_class'])}. segzoo reads {KNOWN}.")
    unknown = sorted(name for name in config if name not in _SETTINGS and not name.startswith("_"))
    faults = [
        (config.get("encoder_depth", 5) != 5, "an encoder_depth other than 5"),
        (config.get("decoder_use_norm") not in _NORMS, "a decoder_use_norm other than batchnorm"),
        (config.get("decoder_use_batchnorm") not in _NORMS, "a decoder_use_batchnorm other than true"),
        (config.get("decoder_attention_type") is not None, "a decoder_attention_type"),
        (
            config.get("decoder_interpolation", "nearest") not in _INTERPOLATIONS,
            "a decoder_interpolation other than nearest and bilinear",
        ),
        (config.get("activation") not in _ACTIVATIONS, "an activation that changes which class wins"),
        (bool(unknown), f"unknown settings ({some(unknown)})"),
    ]
    reasons = [what for is_fault, what in faults if is_fault]
    if reasons:
        raise CheckpointError(f"{file} has {' and '.join(reasons)}, which segzoo's unet cannot express.")
    return config


def parse(
    tensors: Mapping[str, Tensor], encoder: str | None = None, interpolation: str = "nearest"
) -> ConvertedCheckpoint:
    """Describes the checkpoint as a model of segzoo.

    A single (sigmoid) class becomes two. The logit of the first is always 0, so the softmax of the second equals the
    sigmoid, and the second wins if its logit is above 0.

    Args:
        encoder: smp's or timm's name of the encoder. A "tu-" encoder requires it; the tensors identify the others.
        interpolation: "nearest" or "bilinear", which the tensors do not show.

    Raises:
        OptionError: another interpolation.
        CheckpointError: segzoo's unet cannot express the model, or the encoder has to be named.
    """
    if interpolation not in _INTERPOLATIONS:
        raise OptionError(f"For smp's Unet, upsample must be 'nearest' or 'bilinear', not {interpolation!r}.")
    channels = _decoder_channels(tensors)
    is_smp, name = _encoder(tensors, None if encoder is None else encoder.removeprefix("tu-"))
    options: dict[str, Any] = {
        "upsample": interpolation,
        "decoder_channels": channels,
        "project": False,
        "stride1_skip": False,
        "head_kernel_size": 3,
    }
    for marker, center in _CENTERS.items():
        if marker in tensors:
            options["center"] = center
    num_classes = shape_of(tensors, "segmentation_head.0.weight", 4)[0]
    if num_classes == 1:
        tensors, num_classes = {**tensors, **_two_classes(tensors)}, 2
    names = {theirs: ours for theirs in tensors if (ours := _renamed(theirs)) is not None}
    return ConvertedCheckpoint(
        origin=f"segmentation-models-pytorch Unet on {name if is_smp else f'tu-{name}'}",
        decoder="unet",
        encoder=_TIMM_NAMES.get(name, name),
        num_classes=num_classes,
        options=options,
        normalization=IMAGENET if is_smp else None,
        tensors=tensors,
        names=names,
    )


def _decoder_channels(tensors: Mapping[str, Tensor]) -> list[int]:
    """Output channels of the decoder's five blocks, after checking that segzoo's unet can express the blocks."""
    first = "decoder.blocks.0"
    if f"{first}.attention1.attention.cSE.1.weight" in tensors:
        raise CheckpointError("segzoo's unet cannot express decoder_attention_type='scse'.")
    if f"{first}.conv1.1.running_mean" not in tensors:
        raise CheckpointError("segzoo's unet cannot express a decoder_use_norm other than batchnorm.")
    channels: list[int] = []
    while (name := f"decoder.blocks.{len(channels)}.conv1.0.weight") in tensors:
        channels.append(shape_of(tensors, name, 4)[0])
    if len(channels) != 5:
        raise CheckpointError(f"segzoo's unet cannot express encoder_depth={len(channels)}; it always uses 5 levels.")
    return channels


def _encoder(tensors: Mapping[str, Tensor], requested: str | None) -> tuple[bool, str]:
    """Whether the encoder is smp's own rather than timm's, and its name without "tu-"."""
    if any(name.startswith(_TIMM) for name in tensors):
        if requested is None:
            raise CheckpointError(
                "The encoder is one of timm's, and the tensors do not show which. Pass its name, such as "
                "encoder='tu-resnet34', or the folder that save_pretrained wrote, which contains the name."
            )
        return False, requested
    name = resnet_name(tensors, "encoder.")
    if "encoder.features.1.conv.0.0.weight" in tensors:
        name = "mobilenet_v2"
    elif "encoder.features.0.weight" in tensors:
        numbers = [n for n in range(64) if getattr(tensors.get(f"encoder.features.{n}.weight"), "ndim", 0) == 4]
        plain = _VGG.get(len(numbers))
        name = plain and (f"{plain}_bn" if "encoder.features.1.running_mean" in tensors else plain)
    if name is None:
        examples = some(sorted(key for key in tensors if key.startswith("encoder.")), 3)
        raise CheckpointError(f"The encoder is not one that segzoo reads ({examples}). segzoo reads {KNOWN}.")
    if requested not in (None, name, _TIMM_NAMES.get(name)):
        raise CheckpointError(f"The checkpoint's encoder is {name}, not {requested}. Leave out encoder=.")
    return True, name


def _renamed(theirs: str) -> str | None:
    """segzoo's name of a tensor; None if segzoo's unet has no such tensor."""
    part, _, rest = theirs.partition(".")
    if theirs.startswith(_TIMM):
        return f"encoder.net.{theirs.removeprefix(_TIMM)}"
    for pattern, ours in _PATTERNS.items():
        if match := pattern.fullmatch(theirs):
            return ours(match)
    return f"encoder.net.{rest}" if part == "encoder" else None


def _residual(match: re.Match[str]) -> str | None:
    """segzoo's name of a tensor in an inverted residual of MobileNetV2."""
    number, layer, rest = int(match[1]), match[2], match[3]
    if not 1 <= number <= len(_MOBILENET):
        return None
    stage, block = _MOBILENET[number - 1]
    name = (_DEPTHWISE if number == 1 else _INVERTED).get(layer)
    return name and f"encoder.net.blocks.{stage}.{block}.{name}.{rest}"


_PATTERNS: dict[re.Pattern[str], Callable[[re.Match[str]], str | None]] = {
    re.compile(r"decoder\.blocks\.(\d+)\.conv([12])\.(.+)"): lambda m: f"decoder.blocks.{m[1]}.{int(m[2]) - 1}.{m[3]}",
    re.compile(r"decoder\.center\.(.+)"): lambda m: f"decoder.center.{m[1]}",
    re.compile(r"segmentation_head\.0\.(.+)"): lambda m: f"decoder.head.{m[1]}",
    re.compile(r"encoder\.features\.0\.0\.(.+)"): lambda m: f"encoder.net.conv_stem.{m[1]}",
    re.compile(r"encoder\.features\.0\.1\.(.+)"): lambda m: f"encoder.net.bn1.{m[1]}",
    re.compile(r"encoder\.features\.18\.([01]\..+)"): lambda m: f"decoder.center.{m[1]}",
    re.compile(r"encoder\.features\.(\d+)\.conv\.(\d(?:\.\d)?)\.(.+)"): _residual,
    re.compile(r"encoder\.features\.(\d+)\.(\w+)"): lambda m: f"encoder.net.features_{m[1]}.{m[2]}",
}
"""Patterns of smp's names, and functions that return segzoo's. Other names of an encoder are timm's already."""


def _two_classes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of a single class, with a class whose logit is always 0 before it."""
    head = {f"segmentation_head.0.{part}": tensors.get(f"segmentation_head.0.{part}") for part in ("weight", "bias")}
    return {name: torch.cat((torch.zeros_like(part), part)) for name, part in head.items() if part is not None}
