"""torchvision's fcn_resnet50 and fcn_resnet101, with and without the auxiliary head, as segzoo's `fcn`.

Layer for layer the same network: timm's ResNet names its tensors as torchvision does, and so does our head. The
dilation that takes both to 1/8 is the same too. `torchvision/models/segmentation/fcn.py`, BSD-3.
"""

from collections.abc import Mapping

from torch import Tensor

from segzoo.errors import CheckpointError
from segzoo.weights.convert.base import IMAGENET, Foreign, resnet, sizes

KNOWN = "torchvision's fcn_resnet50 and fcn_resnet101"

_PARTS = {"backbone": "encoder.net", "classifier": "decoder.head", "aux_classifier": "decoder.auxiliary_head"}


def recognised(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of torchvision's FCN; its DeepLab has no convolution at classifier.0."""
    return {"backbone.conv1.weight", "classifier.0.weight", "classifier.4.weight"} <= tensors.keys()


def understood(tensors: Mapping[str, Tensor], encoder: str | None = None) -> Foreign:
    """The model in segzoo's words.

    Args:
        encoder: what the backbone has to be; None takes what it is.

    Raises:
        CheckpointError: tensors that say it are missing or misshapen, or it is on another network.
    """
    found = resnet(tensors, "backbone.")
    if found is None:
        raise CheckpointError(f"The backbone is none of torchvision's ResNets. segzoo reads {KNOWN}.")
    if encoder not in (None, found):
        raise CheckpointError(f"The backbone in it is {found}, not {encoder}.")
    num_classes = sizes(tensors, "classifier.4.weight", 4)[0]
    names = {}
    for name in tensors:
        part, _, rest = name.partition(".")
        if part in _PARTS:
            names[name] = f"{_PARTS[part]}.{rest}"
    return Foreign(
        origin=f"torchvision fcn_{found}",
        decoder="fcn",
        encoder=found,
        num_classes=num_classes,
        output_stride=8,
        options={"auxiliary": True} if "aux_classifier.0.weight" in tensors else {},
        labels="voc" if num_classes == 21 else None,
        normalisation=IMAGENET,
        tensors=tensors,
        names=names,
    )
