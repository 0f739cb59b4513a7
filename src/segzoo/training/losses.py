"""Losses for semantic segmentation, and weighted sums of them by name: "ce", "ce+dice", "ce+0.5*lovasz".

Each maps logits (N, C, H, W) and class ids (N, H, W) of any integer type to a scalar. They compute in float32, under
autocast too. Pixels with `ignore_index` do not contribute and get no gradient; a batch of ignored pixels gives a loss
and gradients of 0.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo import _registry
from segzoo._arguments import explained
from segzoo.errors import OptionError, unknown
from segzoo.schema import check_options


class Loss(nn.Module):
    """Abstract base class: maps logits and class ids to a scalar. Subclasses implement `cost`."""

    def __init__(self, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """The loss.

        Args:
            logits: (N, C, H, W), of any floating-point type.
            target: class ids (N, H, W), or `ignore_index`.
            pixel_weights: (N, H, W), the weight of each pixel, for losses that are means over pixels ("ce", "focal").

        Raises:
            OptionError: the shapes do not match; or, on the CPU, an id is neither a class nor ignored. Other devices
                skip this check, which would wait for the device at every step.
        """
        if logits.ndim != 4 or target.shape != logits.shape[:1] + logits.shape[2:]:
            raise OptionError(
                f"A loss needs logits (N, C, H, W) and ids (N, H, W), not {tuple(logits.shape)} and "
                f"{tuple(target.shape)}."
            )
        target = target.long()
        if target.device.type == "cpu" and not torch.compiler.is_compiling():
            self._check_ids(target, logits.shape[1])
        return self.cost(logits.float(), target, pixel_weights)

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        """The loss of float32 logits for int64 ids."""
        raise NotImplementedError

    def _check_ids(self, target: Tensor, num_classes: int) -> None:
        invalid = target[(target != self.ignore_index) & ((target < 0) | (target >= num_classes))]
        if len(invalid) > 0:
            raise OptionError(
                f"The target has the id {int(invalid[0])}; the classes are 0-{num_classes - 1}, and "
                f"{self.ignore_index} is ignored. Pass the data's ignore_index (SegmentationData.ignore_index)."
            )

    def _one_hot(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The inputs of overlap losses; only the first is float32, to save memory.

        Returns:
            probabilities (N, C, H, W); whether a pixel belongs to a class, bool (N, C, H, W); whether it is valid (not
            ignored), bool (N, 1, H, W).
        """
        probabilities = logits.softmax(1)
        valid = (target != self.ignore_index)[:, None]
        classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
        return probabilities, (target[:, None] == classes) & valid, valid


class CrossEntropy(Loss):
    """Cross-entropy, weighted by class and by pixel.

    Args:
        ignore_index: the id of pixels to ignore.
        weights: one weight per class, such as `ClassStatistics.median_frequency`; None for none.
        normalize: "weights" divides the sum by the sum of the pixels' weights, as torch does; "pixels" by the number of
            valid pixels, as SegNet's Caffe layer does, so that a batch of rare classes has a higher loss.
        smoothing: label smoothing: the share of the target that is spread evenly over all classes, 0-1
            (arXiv 1512.00567, section 7).

    Raises:
        OptionError: a weight below 0, an unknown `normalize`, or a smoothing outside 0-1.
    """

    def __init__(
        self,
        ignore_index: int,
        *,
        weights: Sequence[float] | Tensor | None = None,
        normalize: str = "weights",
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(ignore_index)
        if normalize not in ("weights", "pixels"):
            raise OptionError(f"Cross-entropy can be normalized by 'weights' or 'pixels', not {normalize!r}.")
        if not 0 <= smoothing < 1:
            raise OptionError(f"Label smoothing must be at least 0 and below 1, not {smoothing}.")
        self.normalize = normalize
        self.smoothing = smoothing
        self.weights: Tensor | None
        self.register_buffer("weights", _to_tensor(weights), persistent=False)

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        if self.weights is not None and len(self.weights) != logits.shape[1]:
            raise OptionError(f"There are {len(self.weights)} class weights for {logits.shape[1]} classes.")
        costs = F.cross_entropy(
            logits,
            target,
            self.weights,
            ignore_index=self.ignore_index,
            reduction="none",
            label_smoothing=self.smoothing,
        )
        valid = target != self.ignore_index
        counts = valid.to(costs.dtype)
        if self.weights is not None and self.normalize == "weights":
            counts = counts * self.weights[torch.where(valid, target, 0)]
        if pixel_weights is not None:
            costs = costs * pixel_weights
            counts = counts * pixel_weights if self.normalize == "weights" else counts
        return _mean(costs.sum(), counts.sum())


class Focal(Loss):
    """Focal loss (Lin et al., arXiv 1708.02002, equation 4) with softmax: the mean of (1 - p)^gamma * cross-entropy.

    Args:
        ignore_index: the id of pixels to ignore.
        gamma: 0 gives cross-entropy; higher values reduce the loss of easy pixels.
        weights: one weight per class (the paper's alpha); None for none. The mean is over pixels, not over weights.

    Raises:
        OptionError: gamma or a weight is below 0.
    """

    def __init__(
        self, ignore_index: int, *, gamma: float = 2.0, weights: Sequence[float] | Tensor | None = None
    ) -> None:
        super().__init__(ignore_index)
        if not gamma >= 0:
            raise OptionError(f"gamma of the focal loss must be 0 or more, not {gamma}.")
        self.gamma = gamma
        self.weights: Tensor | None
        self.register_buffer("weights", _to_tensor(weights), persistent=False)

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        costs = F.cross_entropy(logits, target, ignore_index=self.ignore_index, reduction="none")
        # 1 - p from log p. The lower bound avoids an infinite gradient of the power at p = 1 for gamma below 1.
        costs = (-torch.expm1(-costs)).clamp_min(torch.finfo(costs.dtype).tiny) ** self.gamma * costs
        valid = target != self.ignore_index
        if self.weights is not None:
            costs = costs * self.weights[torch.where(valid, target, 0)]
        counts = valid.to(costs.dtype)
        if pixel_weights is not None:
            costs, counts = costs * pixel_weights, counts * pixel_weights
        return _mean(costs.sum(), counts.sum())


class Overlap(Loss):
    """Abstract base class of losses on the overlap of predicted probabilities and target, per class.

    Args:
        ignore_index: the id of pixels to ignore.
        smooth: added to numerator and denominator, in pixels.

    Raises:
        OptionError: `smooth` is below 0.
    """

    def __init__(self, ignore_index: int, *, smooth: float = 0.0) -> None:
        super().__init__(ignore_index)
        if not 0 <= smooth < float("inf"):
            raise OptionError(f"smooth must be 0 or more, not {smooth}.")
        self.smooth = smooth

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        probabilities, one_hot, valid = self._one_hot(logits, target)
        intersection = torch.where(one_hot, probabilities, 0.0).sum((0, 2, 3))
        predicted = torch.where(valid, probabilities, 0.0).sum((0, 2, 3))
        true = one_hot.sum((0, 2, 3)).to(intersection.dtype)
        return _mean_over_present(self.class_costs(intersection, predicted, true), true)

    def class_costs(self, intersection: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """The cost of each class, (C,), from sums (C,): probability on true pixels, on all valid ones, true pixels."""
        raise NotImplementedError


class Dice(Overlap):
    """Soft Dice loss, 1 - Dice, averaged over the classes that occur in the batch's target.

    Milletari, Navab, Ahmadi: V-Net, arXiv 1606.04797, but with unsquared probabilities. The sums are over the whole
    batch, so a class that occurs in only one of its images still counts.

    Args:
        ignore_index: the id of pixels to ignore.
        smooth: added to numerator and denominator, in pixels.
    """

    def class_costs(self, intersection: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        return 1 - (2 * intersection + self.smooth) / (predicted + true + self.smooth).clamp_min(_TINY)


class Jaccard(Overlap):
    """Soft Jaccard loss, 1 - IoU, averaged over the classes that occur in the batch's target.

    Rahman, Wang: Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, ISVC 2016.

    Args:
        ignore_index: the id of pixels to ignore.
        smooth: added to numerator and denominator, in pixels.
    """

    def class_costs(self, intersection: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        union = predicted + true - intersection
        return 1 - (intersection + self.smooth) / (union + self.smooth).clamp_min(_TINY)


class Lovasz(Loss):
    """Lovasz-softmax, a convex surrogate of 1 - IoU, averaged over the classes that occur in the batch's target.

    Berman, Rannen Triki, Blaschko: The Lovasz-Softmax loss, arXiv 1705.08790, section 3 and algorithm 1.

    Args:
        ignore_index: the id of pixels to ignore.
    """

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        probabilities, one_hot, valid = self._one_hot(logits, target)
        # The error of ignored pixels is 0, so they come last and add nothing.
        errors = torch.where(valid, torch.where(one_hot, 1 - probabilities, probabilities), 0.0)
        errors, order = errors.transpose(0, 1).flatten(1).sort(1, descending=True)
        positives = one_hot.transpose(0, 1).flatten(1).gather(1, order).to(errors.dtype).cumsum(1)
        true = positives[:, -1:]
        # k - positives of the first k pixels do not belong to the class.
        union = true + torch.arange(1, errors.shape[1] + 1, device=errors.device) - positives
        jaccard = 1 - (true - positives) / union.clamp_min(_TINY)
        gradient = torch.diff(jaccard, prepend=torch.zeros_like(true))
        return _mean_over_present((errors * gradient).sum(1), true[:, 0])


class WeightedSum(nn.Module):
    """A weighted sum of losses, as `create_loss` builds it by name."""

    def __init__(self, terms: Sequence[tuple[float, Loss]]) -> None:
        super().__init__()
        self.factors = tuple(factor for factor, _ in terms)
        self.losses = nn.ModuleList(loss for _, loss in terms)

    def forward(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """The loss of logits (N, C, H, W) for class ids (N, H, W)."""
        terms = zip(self.factors, self.losses, strict=True)
        return torch.stack([factor * loss(logits, target, pixel_weights) for factor, loss in terms]).sum()

    def with_auxiliary(
        self,
        logits: Tensor,
        auxiliary: Tensor | None,
        target: Tensor,
        weight: float = 0.4,
        pixel_weights: Tensor | None = None,
    ) -> Tensor:
        """The loss of both outputs of `model(images, auxiliary=True)`.

        Args:
            logits: (N, C, H, W).
            auxiliary: the logits of the auxiliary head, of the same shape; None if there is no such head.
            target: class ids (N, H, W).
            weight: the weight of the auxiliary loss; 0.4 is PSPNet's (arXiv 1612.01105, section 4).
            pixel_weights: as for `forward`.
        """
        loss: Tensor = self(logits, target, pixel_weights)
        return loss if auxiliary is None else loss + weight * self(auxiliary, target, pixel_weights)


LOSSES: Mapping[str, type[Loss]] = _registry.LOSSES.objects


@explained
def create_loss(text: str, ignore_index: int, options: Mapping[str, Mapping[str, Any]] | None = None) -> WeightedSum:
    """A weighted sum of losses, by name.

    create_loss("ce + 0.5*dice", ignore_index=11, options={"ce": {"weights": weights, "normalize": "pixels"}})

    Args:
        text: "ce", "dice", "jaccard", "lovasz", "focal", or several joined by +, each with an optional factor.
        ignore_index: the id of pixels to ignore: `SegmentationData.ignore_index`.
        options: the options of each loss, by its name.

    Raises:
        UnknownNameError: an unknown loss or option; the message suggests similar names.
        OptionError: a factor is not a number above 0, a loss occurs twice, or an option has an invalid value.
    """
    factors = parse_loss(text)
    options = options or {}
    for name in options:
        if name not in factors:
            raise unknown("loss with options", name, factors, f"The loss is {text!r}.")
    terms = [(factor, _build_loss(name, ignore_index, options.get(name, {}))) for name, factor in factors.items()]
    return WeightedSum(terms)


def parse_loss(text: str) -> dict[str, float]:
    """The factor of each loss in a sum such as "ce+0.5*dice", by name.

    Raises:
        UnknownNameError, OptionError: as `create_loss`.
    """
    factors: dict[str, float] = {}
    for term in text.split("+"):
        factor, _, name = term.rpartition("*")
        name = name.strip()
        if name not in LOSSES:
            raise unknown("loss", name, LOSSES, f"Losses are {', '.join(LOSSES)}; a sum looks like 'ce+0.5*dice'.")
        if name in factors:
            raise OptionError(f"The loss {text!r} contains {name!r} twice. Add up the factors.")
        try:
            factors[name] = float(factor or 1)
        except ValueError:
            raise OptionError(
                f"{factor.strip()!r} in the loss {text!r} is not a number. Write, for example, 'ce+0.5*dice'."
            ) from None
        if not 0 < factors[name] < float("inf"):
            raise OptionError(f"A factor in the loss {text!r} must be above 0, not {factor.strip()}.")
    return factors


def takes_class_weights(name: str) -> bool:
    """Whether a loss has the option `weights`."""
    return "weights" in inspect.signature(LOSSES[name]).parameters


_TINY = 1e-7
"""Makes 0 / 0 equal to 0, for a class that is neither in the target nor predicted."""


def _build_loss(name: str, ignore_index: int, options: Mapping[str, Any]) -> Loss:
    return LOSSES[name](ignore_index, **check_options(f"the loss {name!r}", LOSSES[name], options))


def _to_tensor(weights: Sequence[float] | Tensor | None) -> Tensor | None:
    if weights is None:
        return None
    values = torch.as_tensor(weights, dtype=torch.float32)
    if values.ndim != 1 or not bool((values >= 0).all()) or not bool(values.isfinite().all()):
        raise OptionError(f"Class weights must be one number of 0 or more per class, not {weights!r}.")
    return values


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """total / count, or 0 with gradients of 0 if count is 0, without waiting for the device."""
    return total / torch.where(count > 0, count, 1.0)


def _mean_over_present(costs: Tensor, true: Tensor) -> Tensor:
    """The mean of costs (C,) over the classes with true pixels (C,)."""
    present = (true > 0).to(costs.dtype)
    return _mean((costs * present).sum(), present.sum())
