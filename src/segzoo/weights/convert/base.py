"""What a checkpoint of another library says, in segzoo's words, and what several of those libraries share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from segzoo.errors import CheckpointError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation that all of torchvision's weights want."""


@dataclass(frozen=True)
class Foreign:
    """A model of another library: what `segzoo.create` builds for it, and which of its tensors goes where."""

    origin: str
    """Library, architecture and encoder, as the library calls them."""

    decoder: str
    encoder: str
    num_classes: int
    tensors: Mapping[str, Tensor]
    """By the library's own names, all of them."""

    names: Mapping[str, str]
    """Its name -> the name of the same tensor in segzoo's model; what is not in here has no place in it."""

    output_stride: int = 32
    options: dict[str, Any] = field(default_factory=dict)
    labels: str | None = None
    """The label set that the library's own weights are for, where the number of classes says so."""

    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and standard deviation of red, green and blue; None takes those of timm's encoder."""


def sizes(tensors: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor that has to be there.

    Raises:
        CheckpointError: it is not, or has other dimensions.
    """
    if name not in tensors:
        raise CheckpointError(f"The weights lack {name}.")
    if tensors[name].ndim != dimensions:
        raise CheckpointError(f"{name} has the shape {tuple(tensors[name].shape)}, and {dimensions} dimensions wanted.")
    return tuple(tensors[name].shape)


_RESNETS = {
    # blocks a layer; output and input channels of the second convolution of the first block; whether it has a third
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


def resnet(tensors: Mapping[str, Tensor], prefix: str) -> str | None:
    """Which of torchvision's ResNets and ResNeXts stands under a prefix; None where it is none of them."""

    def blocks(layer: int) -> int:
        count = 0
        while f"{prefix}layer{layer}.{count}.conv1.weight" in tensors:
            count += 1
        return count

    first = f"{prefix}layer1.0."
    if f"{prefix}conv1.weight" not in tensors or f"{first}conv2.weight" not in tensors:
        return None
    out, into, *_ = sizes(tensors, f"{first}conv2.weight", 4)
    depth = (blocks(1), blocks(2), blocks(3), blocks(4))
    return _RESNETS.get((depth, (out, into), f"{first}conv3.weight" in tensors))
