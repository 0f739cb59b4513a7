"""`with_classes`: a model with another head, or other class names."""

import copy

from torch import Tensor, nn

from segzoo._arguments import explained
from segzoo.class_files import ClassesLike, resolve_classes
from segzoo.errors import OptionError
from segzoo.models.base import SegmentationModel
from segzoo.models.build import build, classes_for
from segzoo.schema import whole_number


@explained
def with_classes(
    model: SegmentationModel, num_classes: int | None = None, classes: ClassesLike | None = None
) -> SegmentationModel:
    """A new model with another head or other classes. Modes and frozen parameters are those of the given model.

    If `num_classes` differs, all tensors whose shape depends on it get random values, and the old spec's `info` moves
    to `info["started_from"]`. All other tensors share memory with the given model, so that training one model changes
    the other: pass `copy.deepcopy(model)` to train both.

    Args:
        num_classes: None keeps the number.
        classes: a class set, the name of one or a file, as for `segzoo.create`. None keeps the classes, or names new
            ones "class 0" and so on.

    Raises:
        UnknownNameError: `classes` is not the name of a class set.
        OptionError: `num_classes` is below 2, or not the number of `classes`.
    """
    classes = resolve_classes(classes)
    old = model.spec
    if num_classes is None and classes is not None and len(classes) != old.num_classes:
        raise OptionError(
            f"The weights are for {old.num_classes} classes, and the class set names {len(classes)}. "
            f"num_classes={len(classes)} gives the model a new head, which needs training."
        )
    num_classes = old.num_classes if num_classes is None else whole_number("num_classes", num_classes)
    if num_classes == old.num_classes:
        new = _sharing_tensors(model)
        new.spec = old.replace(classes=old.classes if classes is None else classes_for(num_classes, classes))
        return new
    spec = old.restarted(num_classes=old.num_classes).replace(classes=classes_for(num_classes, classes))
    new = build(spec).to(next(model.parameters()))  # the device and dtype
    initial = new.state_dict()
    kept = {name: tensor for name, tensor in model.state_dict().items() if tensor.shape == initial[name].shape}
    new.load_state_dict(kept, strict=False, assign=True)
    new.remember_new_head(initial.keys() - kept.keys())
    trainable = {name: p.requires_grad for name, p in model.named_parameters(remove_duplicate=False)}
    for name, parameter in new.named_parameters(remove_duplicate=False):
        if name in kept:
            parameter.requires_grad_(trainable[name])
    modes = {name: module.training for name, module in model.named_modules(remove_duplicate=False)}
    for name, module in new.named_modules(remove_duplicate=False):
        module.training = modes.get(name, model.training)
    return new


def _sharing_tensors(model: SegmentationModel) -> SegmentationModel:
    """A copy of the model whose parameters and buffers share memory with the original's."""
    # New Parameters: half() and to() change the data of a Parameter, and would change the original's.
    shared: dict[int, Tensor] = {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, shared | {id(buffer): buffer for buffer in model.buffers()})
