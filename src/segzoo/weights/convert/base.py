"""`ConvertedCheckpoint`, the common result of all converters, and helpers that several of them share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from segzoo.errors import CheckpointError, shown

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation for all of torchvision's weights, RGB on a scale of 0 to 1."""


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """Another library's checkpoint: the arguments with which `segzoo.create` builds the model, and its tensors."""

    origin: str
    """Library, architecture and encoder, by the library's own names."""

    decoder: str
    encoder: str
    num_classes: int
    tensors: Mapping[str, Tensor]
    """All tensors of the checkpoint, by the library's names."""

    names: Mapping[str, str]
    """The library's name of each tensor -> segzoo's name. A tensor that is not listed is not used."""

    output_stride: int = 32
    options: dict[str, Any] = field(default_factory=dict)
    classes: str | None = None
    """Class set of the library's own weights, if the number of classes identifies it."""

    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and standard deviation of red, green and blue; None uses those of timm's encoder."""


def shape_of(tensors: Mapping[str, Tensor], name: str, ndim: int) -> tuple[int, ...]:
    """The shape of a required tensor.

    Raises:
        CheckpointError: the tensor is missing or does not have `ndim` dimensions.
    """
    if name not in tensors:
        raise CheckpointError(f"The checkpoint has no tensor {name}.")
    shape = tuple(tensors[name].shape)
    if len(shape) != ndim:
        raise CheckpointError(f"{name} has the shape {shown(shape)}; it must have {ndim} dimensions.")
    return shape


_RESNETS = {
    # Blocks per layer; output and input channels of the first block's second convolution; whether it has a third one.
    ((2, 2, 2, 2), (64, 64), False): "resnet18",
    ((3, 4, 6, 3), (64, 64), False): "resnet34",
    ((3, 4, 6, 3), (64, 64), True): "resnet50",
    ((3, 4, 23, 3), (64, 64), True): "resnet101",
    ((3, 8, 36, 3), (64, 64), True): "resnet152",
    ((3, 4, 6, 3), (128, 4), True): "resnext50_32x4d",
    ((3, 4, 23, 3), (128, 4), True): "resnext101_32x4d",
    ((3, 4, 23, 3), (256, 8), True): "resnext101_32x8d",
    ((3, 4, 23, 3), (512, 16), True): "resnext101_32x16d",
    ((3, 4, 23, 3), (1024, 32), True): "resnext101_32x32d",
}


def resnet_name(tensors: Mapping[str, Tensor], prefix: str) -> str | None:
    """The name of torchvision's ResNet or ResNeXt whose tensors have this prefix; None for any other network."""

    def blocks(layer: int) -> int:
        count = 0
        while f"{prefix}layer{layer}.{count}.conv1.weight" in tensors:
            count += 1
        return count

    first = f"{prefix}layer1.0."
    if f"{prefix}conv1.weight" not in tensors or f"{first}conv2.weight" not in tensors:
        return None
    out_channels, in_channels, *_ = shape_of(tensors, f"{first}conv2.weight", 4)
    depths = (blocks(1), blocks(2), blocks(3), blocks(4))
    return _RESNETS.get((depths, (out_channels, in_channels), f"{first}conv3.weight" in tensors))
