"""Converts torchvision's fcn_resnet50 and fcn_resnet101, with or without the auxiliary head, to segzoo's `fcn`.

The networks are identical layer by layer: timm's ResNet and segzoo's head name their tensors as torchvision does, and
both networks use the same dilation to reach an output stride of 8. Source: `torchvision/models/segmentation/fcn.py`,
BSD-3.
"""

from collections.abc import Mapping

from torch import Tensor

from segzoo.errors import CheckpointError
from segzoo.weights.convert.base import IMAGENET, ConvertedCheckpoint, resnet_name, shape_of

KNOWN = "torchvision's fcn_resnet50 and fcn_resnet101"
"""The supported models, for messages."""

_PARTS = {"backbone": "encoder.net", "classifier": "decoder.classifier", "aux_classifier": "decoder.aux_classifier"}
"""torchvision's submodules -> segzoo's."""


def matches(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of torchvision's FCN. Its DeepLab has no convolution at classifier.0."""
    return {"backbone.conv1.weight", "classifier.0.weight", "classifier.4.weight"} <= tensors.keys()


def parse(tensors: Mapping[str, Tensor], encoder: str | None = None) -> ConvertedCheckpoint:
    """Describes the checkpoint as a model of segzoo.

    Args:
        encoder: the expected backbone; None accepts any that is supported.

    Raises:
        CheckpointError: the tensors that identify the model are missing or have the wrong shape, or it has another
            backbone.
    """
    backbone = resnet_name(tensors, "backbone.")
    if backbone is None:
        raise CheckpointError(f"The backbone is not one of torchvision's ResNets. segzoo reads {KNOWN}.")
    if encoder not in (None, backbone):
        raise CheckpointError(f"The checkpoint's backbone is {backbone}, not {encoder}. Leave out encoder=.")
    num_classes = shape_of(tensors, "classifier.4.weight", 4)[0]
    names = {}
    for name in tensors:
        part, _, rest = name.partition(".")
        if part in _PARTS:
            names[name] = f"{_PARTS[part]}.{rest}"
    return ConvertedCheckpoint(
        origin=f"torchvision fcn_{backbone}",
        decoder="fcn",
        encoder=backbone,
        num_classes=num_classes,
        output_stride=8,
        options={"auxiliary": True} if "aux_classifier.0.weight" in tensors else {},
        classes="voc" if num_classes == 21 else None,
        normalization=IMAGENET,
        tensors=tensors,
        names=names,
    )
