"""segmentation-models-pytorch's Unet, as segzoo's `unet` with the options that make it the same network.

Its encoders: torchvision's ResNets, ResNeXts, VGGs and MobileNetV2, and any of timm's, which it calls "tu-...". The
path up goes to full size in five steps of nearest-neighbour interpolation, and the scores come from a 3x3 convolution.
`segmentation_models_pytorch/decoders/unet`, MIT, versions 0.5 and 0.6.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segzoo.errors import CheckpointError, OptionError
from segzoo.weights.convert.base import IMAGENET, Foreign, resnet, sizes
from segzoo.weights.state_dict import some

KNOWN = "segmentation-models-pytorch's Unet on ResNet, ResNeXt, VGG, mobilenet_v2 and tu- encoders"

_TIMM_NAMES = {"mobilenet_v2": "mobilenetv2_100"}

_VGG = {8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"}
"""By the number of convolutions."""

_MOBILENET = tuple((stage, block) for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)) for block in range(count))
"""Stage and place in it of each inverted residual, as timm counts them; torchvision numbers them from 1 on."""

_DEPTHWISE = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
_INVERTED = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}
"""Layers of the first residual, which does not expand, and of all others: torchvision's numbers, timm's names."""

_TIMM = "encoder.model."
"""What stands before each tensor of a "tu-" encoder."""

_BRIDGES = {"decoder.center.0.0.weight": "convs", "encoder.features.18.0.weight": "expand"}
"""What VGG and MobileNetV2 have between encoder and decoder, by a tensor that shows it."""

_WAYS = ("nearest", "bilinear")

_SETTINGS = {
    "encoder_name",
    "encoder_depth",
    "encoder_weights",
    "decoder_use_norm",
    "decoder_use_batchnorm",
    "decoder_channels",
    "decoder_attention_type",
    "decoder_interpolation",
    "in_channels",
    "classes",
    "activation",
    "aux_params",
}
_NORMS = ("batchnorm", True, {"type": "batchnorm"}, None)
_ACTIVATIONS = (None, "identity", "sigmoid", "softmax", "softmax2d", "logsoftmax", "tanh", "argmax", "argmax2d")
"""Of these the logits before are enough: none changes which class wins."""


def recognised(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of its Unet, and not of another of its decoders."""
    return {"segmentation_head.0.weight", "decoder.blocks.0.conv1.0.weight"} <= tensors.keys()


def settings(folder: Path) -> dict[str, Any]:
    """The config.json that `save_pretrained` writes; no path is ever taken from it.

    Raises:
        CheckpointError: there is none, or it is not that of a Unet that segzoo can express.
    """
    file = folder / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"Cannot read {file}: {error}. save_pretrained writes it beside the weights.") from error
    if not isinstance(found, dict) or not isinstance(found.get("encoder_name"), str):
        raise CheckpointError(f"{file} is not what segmentation-models-pytorch's save_pretrained writes.")
    if found.get("_model_class", "Unet") != "Unet":
        raise CheckpointError(f"{file} is of a {found['_model_class']}; segzoo reads {KNOWN}.")
    other = sorted(name for name in found if name not in _SETTINGS and not name.startswith("_"))
    faults = [
        (found.get("encoder_depth", 5) != 5, "an encoder_depth other than 5"),
        (found.get("decoder_use_norm") not in _NORMS, "a decoder_use_norm other than batchnorm"),
        (found.get("decoder_use_batchnorm") not in _NORMS, "a decoder_use_batchnorm other than true"),
        (found.get("decoder_attention_type") is not None, "a decoder_attention_type"),
        (
            found.get("decoder_interpolation", "nearest") not in _WAYS,
            "a decoder_interpolation of its own",
        ),
        (found.get("activation") not in _ACTIVATIONS, "an activation that changes which class wins"),
        (bool(other), f"settings that it does not know ({some(other)})"),
    ]
    reasons = [what for wrong, what in faults if wrong]
    if reasons:
        raise CheckpointError(f"{file} has {' and '.join(reasons)}, which segzoo's unet cannot express.")
    return found


def understood(tensors: Mapping[str, Tensor], encoder: str | None = None, interpolation: str = "nearest") -> Foreign:
    """The model in segzoo's words.

    A single class (a sigmoid's) becomes two: the first one's logit is always 0, so that softmax gives what the sigmoid
    gave, and the second wins where the logit is above 0.

    Args:
        encoder: its name, in smp's words or timm's; "tu-" encoders need it, of the others the tensors tell.
        interpolation: "nearest" or "bilinear", which the tensors do not tell.

    Raises:
        CheckpointError: a part of it that segzoo's unet cannot express, or an encoder that has to be named.
    """
    if interpolation not in _WAYS:
        raise OptionError(f"upsample is 'nearest' or 'bilinear' for smp's Unet, not {interpolation!r}.")
    width = _widths(tensors)
    own, name = _encoder(tensors, None if encoder is None else encoder.removeprefix("tu-"))
    options: dict[str, Any] = {
        "upsample": interpolation,
        "width": width,
        "narrow": False,
        "join_full_size": False,
        "kernel": 3,
    }
    for sign, bridge in _BRIDGES.items():
        if sign in tensors:
            options["bridge"] = bridge
    num_classes = sizes(tensors, "segmentation_head.0.weight", 4)[0]
    if num_classes == 1:
        tensors, num_classes = {**tensors, **_two_classes(tensors)}, 2
    names = {theirs: ours for theirs in tensors if (ours := _renamed(theirs)) is not None}
    return Foreign(
        origin=f"segmentation-models-pytorch Unet on {name if own else f'tu-{name}'}",
        decoder="unet",
        encoder=_TIMM_NAMES.get(name, name),
        num_classes=num_classes,
        options=options,
        normalisation=IMAGENET if own else None,
        tensors=tensors,
        names=names,
    )


def _widths(tensors: Mapping[str, Tensor]) -> list[int]:
    """The channels of the decoder's blocks, once it is sure that they are blocks of the kind that segzoo has."""
    first = "decoder.blocks.0"
    if f"{first}.attention1.attention.cSE.1.weight" in tensors:
        raise CheckpointError("It has decoder_attention_type='scse', which segzoo's unet cannot express.")
    if f"{first}.conv1.1.running_mean" not in tensors:
        raise CheckpointError("It has a decoder_use_norm other than batchnorm, which segzoo's unet cannot express.")
    width: list[int] = []
    while f"decoder.blocks.{len(width)}.conv1.0.weight" in tensors:
        width.append(sizes(tensors, f"decoder.blocks.{len(width)}.conv1.0.weight", 4)[0])
    if len(width) != 5:
        raise CheckpointError(f"It has encoder_depth={len(width)}, and an encoder of segzoo always has all its levels.")
    return width


def _encoder(tensors: Mapping[str, Tensor], given: str | None) -> tuple[bool, str]:
    """Whether the encoder is smp's own and not timm's, and its name without "tu-"."""
    if any(name.startswith(_TIMM) for name in tensors):
        if given is None:
            raise CheckpointError(
                "The encoder is one of timm's, and the tensors do not tell which: name it, such as "
                "encoder='tu-resnet34'. The folder that save_pretrained writes says it itself."
            )
        return False, given
    found = resnet(tensors, "encoder.")
    if "encoder.features.1.conv.0.0.weight" in tensors:
        found = "mobilenet_v2"
    elif "encoder.features.0.weight" in tensors:
        numbers = [n for n in range(64) if getattr(tensors.get(f"encoder.features.{n}.weight"), "ndim", 0) == 4]
        plain = _VGG.get(len(numbers))
        found = plain and (f"{plain}_bn" if "encoder.features.1.running_mean" in tensors else plain)
    if found is None:
        stems = sorted(name for name in tensors if name.startswith("encoder."))
        raise CheckpointError(f"Its encoder is none that segzoo reads ({some(stems, 3)}). segzoo reads {KNOWN}.")
    if given not in (None, found, _TIMM_NAMES.get(found)):
        raise CheckpointError(f"The encoder in it is {found}, not {given}.")
    return True, found


def _renamed(theirs: str) -> str | None:
    """segzoo's name of a tensor; None for one that has no place in its unet."""
    part, _, rest = theirs.partition(".")
    if theirs.startswith(_TIMM):
        return f"encoder.net.{theirs.removeprefix(_TIMM)}"
    for pattern, ours in _PATTERNS.items():
        if match := pattern.fullmatch(theirs):
            return ours(match)
    return f"encoder.net.{rest}" if part == "encoder" else None


def _residual(match: re.Match[str]) -> str | None:
    """A tensor of one of MobileNetV2's inverted residuals."""
    number, layer, rest = int(match[1]), match[2], match[3]
    if not 1 <= number <= len(_MOBILENET):
        return None
    stage, block = _MOBILENET[number - 1]
    name = (_DEPTHWISE if number == 1 else _INVERTED).get(layer)
    return name and f"encoder.net.blocks.{stage}.{block}.{name}.{rest}"


_PATTERNS: dict[re.Pattern[str], Callable[[re.Match[str]], str | None]] = {
    re.compile(r"decoder\.blocks\.(\d+)\.conv([12])\.(.+)"): lambda m: f"decoder.blocks.{m[1]}.{int(m[2]) - 1}.{m[3]}",
    re.compile(r"decoder\.center\.(.+)"): lambda m: f"decoder.bridge.{m[1]}",
    re.compile(r"segmentation_head\.0\.(.+)"): lambda m: f"decoder.score.{m[1]}",
    re.compile(r"encoder\.features\.0\.0\.(.+)"): lambda m: f"encoder.net.conv_stem.{m[1]}",
    re.compile(r"encoder\.features\.0\.1\.(.+)"): lambda m: f"encoder.net.bn1.{m[1]}",
    re.compile(r"encoder\.features\.18\.([01]\..+)"): lambda m: f"decoder.bridge.{m[1]}",
    re.compile(r"encoder\.features\.(\d+)\.conv\.(\d(?:\.\d)?)\.(.+)"): _residual,
    re.compile(r"encoder\.features\.(\d+)\.(\w+)"): lambda m: f"encoder.net.features_{m[1]}.{m[2]}",
}
"""Their names, and ours for them; an encoder's other names are timm's already."""


def _two_classes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The head of one class with a class of zeros before it."""
    head = {f"segmentation_head.0.{part}": tensors.get(f"segmentation_head.0.{part}") for part in ("weight", "bias")}
    return {name: torch.cat((torch.zeros_like(one), one)) for name, one in head.items() if one is not None}
