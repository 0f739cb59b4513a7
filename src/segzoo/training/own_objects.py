"""Losses, optimizers and schedules of a user's own, as the training loop takes them."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segzoo.classes import ClassSet
from segzoo.data.dataset import ignore_index_of
from segzoo.errors import OptionError
from segzoo.training.build import Schedule
from segzoo.training.losses import Loss


class CallableLoss(Loss):
    """Any callable (logits, target) -> scalar as a loss.

    Args:
        classes: those of the data.

    Raises:
        OptionError: the callable ignores another id than that of the class set.
    """

    def __init__(self, classes: ClassSet, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(ignore_index_of(classes))
        ignored = getattr(function, "ignore_index", self.ignore_index)
        if classes.ignore_index is not None and ignored != classes.ignore_index:
            raise OptionError(
                f"The loss has ignore_index={ignored}, but unlabeled pixels of the data have {self.ignore_index}. "
                f"Create it with ignore_index={self.ignore_index}."
            )
        self.function = function  # a module is registered, so that it moves to the device

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        """The result of the callable.

        Raises:
            OptionError: it is not a tensor without axes; or, on the CPU, `ignore_index` is used as an index.
        """
        try:
            result: Any = self.function(logits, target)
        except IndexError as error:
            raise OptionError(
                f"The loss failed: {error} Targets have the id {self.ignore_index} for unlabeled pixels, and the loss "
                "must leave them out."
            ) from error
        if not isinstance(result, Tensor) or result.ndim != 0:
            shown = f"a tensor {tuple(result.shape)}" if isinstance(result, Tensor) else repr(result)
            raise OptionError(f"The loss must return a scalar tensor, not {shown}. Take the mean over the pixels.")
        return result


def own_optimizer(optimizer: Any, model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer of the model's parameters: the given one, or the result of a callable.

    Raises:
        OptionError: the callable returns something else, or the optimizer has other parameters.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer([p for p in model.parameters() if p.requires_grad])
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise OptionError(f"The callable optimizer must return a torch Optimizer, not {optimizer!r}.")
    own = {id(p) for p in model.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise OptionError("The optimizer has no parameter of this model. Create it with model.parameters().")
    return optimizer


def own_schedule(function: Callable[[float], float]) -> Schedule:
    """The schedule of a function that maps the completed share of a run, 0-1, to the factor of the learning rate.

    Raises:
        OptionError: the function does not return a finite number.
    """
    value: Any = function(0.0)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise OptionError(
            f"The schedule must map the completed share of the run, 0-1, to the factor of the learning rate, but "
            f"returned {value!r} for 0."
        )
    return lambda step, total_steps, steps_per_epoch: function(step / total_steps)


def describe(value: Any) -> str:
    """The importable name of a function, or of the class of an object."""
    value = value.func if isinstance(value, functools.partial) else value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
