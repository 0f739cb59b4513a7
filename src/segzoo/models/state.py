"""The tensors that a model's file must hold: those of the model that is built from its spec."""

from collections.abc import Mapping

import torch
from torch import Tensor

from segzoo.errors import SegzooError, shown
from segzoo.models.base import SegmentationModel
from segzoo.models.build import build
from segzoo.spec import ModelSpec
from segzoo.weights.state_dict import COMPILED


def empty_model(spec: ModelSpec) -> SegmentationModel:
    """The model of a spec on the meta device: its tensors have shapes and no values.

    Raises:
        SegzooError, or what a decoder of a plugin raises.
    """
    with torch.device("meta"):
        return build(spec, measure=False)


def differences(expected: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> str:
    """How stored tensors differ from those of a model, in names and shapes, as clauses after "it"; "" if they match."""
    faults = [f"lacks {name}" for name in expected if name not in stored]
    faults += [f"has {shown(name)}, which the model lacks" for name in stored if name not in expected]
    faults += [
        f"has {name} as {shown(tuple(stored[name].shape))}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in stored and stored[name].shape != tensor.shape
    ]
    return "; it ".join(faults[:3]) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")


def own_state(model: SegmentationModel) -> dict[str, Tensor]:
    """The model's tensors by the names that its spec gives them; those of compiled modules have no prefix.

    Tensors that share memory, such as weights that were tied, are copied: the model that is loaded has two equal ones.

    Raises:
        SegzooError: `load` could not read these tensors, because the network was changed after it was built.
    """
    tensors = {name.replace(COMPILED, ""): tensor for name, tensor in model.state_dict().items()}
    faults = differences(empty_model(model.spec).state_dict(), tensors)
    if faults:
        raise SegzooError(
            f"this network is not the one that its spec describes: it {faults}. Undo what changed it, such as "
            "torch.nn.utils.parametrize.remove_parametrizations for weight_norm, or, for another number of classes, "
            "call segzoo.load(FILE, num_classes=N) instead of replacing the head. To keep the weights without a spec, "
            "use torch.save(model.state_dict(), path)"
        )
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return tensors
