"""Losses of semantic segmentation, and weighted sums of them by name: "ce", "ce+dice", "ce+0.5*lovasz".

Each takes logits (N, C, H, W) and class ids (N, H, W) of any integer type, and gives one number. Arithmetic is in
float32, under autocast too. Pixels of the ignored id have no part in it and get no gradient; a batch of nothing else
gives 0 and gradients of 0.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.errors import OptionError, unknown


class Loss(nn.Module):
    """Logits and class ids -> one number. Abstract: a subclass says what a batch of probabilities costs."""

    def __init__(self, ignored: int) -> None:
        super().__init__()
        self.ignored = ignored

    def forward(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None = None) -> Tensor:
        """The loss.

        Args:
            logits: (N, C, H, W), of any floating type.
            target: class ids (N, H, W), or the ignored id.
            pixel_weights: (N, H, W), what each pixel counts; for losses that are means over pixels ("ce", "focal").

        Raises:
            OptionError: the shapes do not belong together; or, on the CPU, an id is neither a class nor ignored. On
                other devices that is not looked for, since looking would wait for the device at every step.
        """
        if logits.ndim != 4 or target.shape != logits.shape[:1] + logits.shape[2:]:
            raise OptionError(
                f"A loss takes logits (N, C, H, W) and ids (N, H, W), not {tuple(logits.shape)} and "
                f"{tuple(target.shape)}."
            )
        target = target.long()
        if target.device.type == "cpu" and not torch.compiler.is_compiling():
            self._check(target, logits.shape[1])
        return self.cost(logits.float(), target, pixel_weights)

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        """What float32 logits cost for int64 ids."""
        raise NotImplementedError

    def _check(self, target: Tensor, classes: int) -> None:
        strange = target[(target != self.ignored) & ((target < 0) | (target >= classes))]
        if len(strange) > 0:
            raise OptionError(
                f"The target has the id {int(strange[0])}; the classes are 0-{classes - 1}, and {self.ignored} is "
                "ignored. Give the loss the ignored id of the data: SegmentationData.ignored."
            )

    def _truth(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What overlap is counted from; none of it is float32 but the first, since memory is what such a loss costs.

        Returns:
            probabilities (N, C, H, W); whether a pixel is of a class, bool (N, C, H, W); whether it counts, bool
            (N, 1, H, W).
        """
        probabilities = logits.softmax(1)
        valid = (target != self.ignored)[:, None]
        classes = torch.arange(logits.shape[1], device=logits.device)[:, None, None]
        return probabilities, (target[:, None] == classes) & valid, valid


class CrossEntropy(Loss):
    """Cross-entropy, weighted by class and by pixel.

    Args:
        ignored: the id that does not count.
        weights: one weight a class, such as `ClassStatistics.median_frequency`; None for none.
        normalise: "weights" divides the sum by the weights of its pixels, as torch does; "pixels" by the number of
            pixels that count, as SegNet's Caffe layer does, so that a batch of rare classes weighs more.
        smoothing: the part of the truth that is spread evenly over all classes, 0-1 (arXiv 1512.00567, section 7).

    Raises:
        OptionError: a weight below 0, another word for `normalise`, a smoothing outside 0-1.
    """

    def __init__(
        self,
        ignored: int,
        *,
        weights: Sequence[float] | Tensor | None = None,
        normalise: str = "weights",
        smoothing: float = 0.0,
    ) -> None:
        super().__init__(ignored)
        if normalise not in ("weights", "pixels"):
            raise OptionError(f"Cross-entropy is normalised by 'weights' or 'pixels', not {normalise!r}.")
        if not 0 <= smoothing < 1:
            raise OptionError(f"Label smoothing is at least 0 and below 1, not {smoothing}.")
        self.normalise = normalise
        self.smoothing = smoothing
        self.weights: Tensor | None
        self.register_buffer("weights", _weights(weights), persistent=False)

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        if self.weights is not None and len(self.weights) != logits.shape[1]:
            raise OptionError(f"There are {len(self.weights)} class weights for {logits.shape[1]} classes.")
        costs = F.cross_entropy(
            logits,
            target,
            self.weights,
            ignore_index=self.ignored,
            reduction="none",
            label_smoothing=self.smoothing,
        )
        valid = target != self.ignored
        counts = valid.to(costs.dtype)
        if self.weights is not None and self.normalise == "weights":
            counts = counts * self.weights[torch.where(valid, target, 0)]
        if pixel_weights is not None:
            costs = costs * pixel_weights
            counts = counts * pixel_weights if self.normalise == "weights" else counts
        return _mean(costs.sum(), counts.sum())


class Focal(Loss):
    """Focal loss (Lin et al., arXiv 1708.02002, equation 4) of softmax: (1 - p)^gamma times cross-entropy, a mean.

    Args:
        ignored: the id that does not count.
        gamma: 0 is cross-entropy; higher ones leave what is easy out.
        weights: one weight a class (the paper's alpha); None for none. The mean is over pixels, not over weights.

    Raises:
        OptionError: a gamma or a weight below 0.
    """

    def __init__(self, ignored: int, *, gamma: float = 2.0, weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__(ignored)
        if not gamma >= 0:
            raise OptionError(f"gamma of the focal loss is 0 or more, not {gamma}.")
        self.gamma = gamma
        self.weights: Tensor | None
        self.register_buffer("weights", _weights(weights), persistent=False)

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        costs = F.cross_entropy(logits, target, ignore_index=self.ignored, reduction="none")
        # 1 - p from log p: at p = 1 the power's own gradient would be infinite for a gamma below 1.
        costs = (-torch.expm1(-costs)).clamp_min(torch.finfo(costs.dtype).tiny) ** self.gamma * costs
        valid = target != self.ignored
        if self.weights is not None:
            costs = costs * self.weights[torch.where(valid, target, 0)]
        counts = valid.to(costs.dtype)
        if pixel_weights is not None:
            costs, counts = costs * pixel_weights, counts * pixel_weights
        return _mean(costs.sum(), counts.sum())


class Overlap(Loss):
    """A cost of how much the probabilities and the truth of each class overlap. Abstract: Dice and Jaccard say which.

    Args:
        ignored: the id that does not count.
        smooth: added above and below, in pixels.

    Raises:
        OptionError: a `smooth` below 0.
    """

    def __init__(self, ignored: int, *, smooth: float = 0.0) -> None:
        super().__init__(ignored)
        if not 0 <= smooth < float("inf"):
            raise OptionError(f"smooth is 0 or more, not {smooth}.")
        self.smooth = smooth

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        probabilities, truth, valid = self._truth(logits, target)
        both = torch.where(truth, probabilities, 0.0).sum((0, 2, 3))
        given, true = torch.where(valid, probabilities, 0.0).sum((0, 2, 3)), truth.sum((0, 2, 3)).to(both.dtype)
        return _over_present(self.missed(both, given, true), true)

    def missed(self, both: Tensor, given: Tensor, true: Tensor) -> Tensor:
        """What each class costs, (C,), by sums in pixels: probability where it is true, all of it, its true pixels."""
        raise NotImplementedError


class Dice(Overlap):
    """1 - Dice of probabilities, a mean over the classes in the batch's truth.

    Milletari, Navab, Ahmadi: V-Net, arXiv 1606.04797, with probabilities that are not squared. Sums are over the whole
    batch, so that a class that is in one image of many counts.

    Args:
        ignored: the id that does not count.
        smooth: added above and below, in pixels.
    """

    def missed(self, both: Tensor, given: Tensor, true: Tensor) -> Tensor:
        return 1 - (2 * both + self.smooth) / (given + true + self.smooth).clamp_min(_TINY)


class Jaccard(Overlap):
    """1 - intersection over union of probabilities, a mean over the classes in the batch's truth.

    Rahman, Wang: Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, ISVC 2016.

    Args:
        ignored: the id that does not count.
        smooth: added above and below, in pixels.
    """

    def missed(self, both: Tensor, given: Tensor, true: Tensor) -> Tensor:
        return 1 - (both + self.smooth) / (given + true - both + self.smooth).clamp_min(_TINY)


class Lovasz(Loss):
    """Lovasz-softmax: the convex surrogate of 1 - IU, a mean over the classes in the batch's truth.

    Berman, Rannen Triki, Blaschko: The Lovasz-Softmax loss, arXiv 1705.08790, section 3 and algorithm 1.

    Args:
        ignored: the id that does not count.
    """

    def cost(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None) -> Tensor:
        probabilities, truth, valid = self._truth(logits, target)
        # 0 where ignored, so that these pixels come last and add nothing.
        errors = torch.where(valid, torch.where(truth, 1 - probabilities, probabilities), 0.0)
        errors, order = errors.transpose(0, 1).flatten(1).sort(1, descending=True)
        found = truth.transpose(0, 1).flatten(1).gather(1, order).to(errors.dtype).cumsum(1)
        true = found[:, -1:]
        # Of the first k pixels, k - found are wrongly given the class.
        union = true + torch.arange(1, errors.shape[1] + 1, device=errors.device) - found
        jaccard = 1 - (true - found) / union.clamp_min(_TINY)
        gradient = torch.diff(jaccard, prepend=torch.zeros_like(true))
        return _over_present((errors * gradient).sum(1), true[:, 0])


class WeightedSum(nn.Module):
    """A sum of losses, each times its factor. `create_loss` makes one by name."""

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
            logits: the model's (N, C, H, W).
            auxiliary: the auxiliary head's, of the same shape; None where there is no such head.
            target: class ids (N, H, W).
            weight: what the auxiliary head's loss counts; 0.4 is PSPNet's (arXiv 1612.01105, section 4).
            pixel_weights: as for `forward`.
        """
        loss: Tensor = self(logits, target, pixel_weights)
        return loss if auxiliary is None else loss + weight * self(auxiliary, target, pixel_weights)


LOSSES: dict[str, type[Loss]] = {
    "ce": CrossEntropy,
    "dice": Dice,
    "jaccard": Jaccard,
    "lovasz": Lovasz,
    "focal": Focal,
}


def create_loss(text: str, ignored: int, options: Mapping[str, Mapping[str, Any]] | None = None) -> WeightedSum:
    """A sum of losses by their names.

    create_loss("ce + 0.5*dice", ignored=11, options={"ce": {"weights": weights, "normalise": "pixels"}})

    Args:
        text: "ce", "dice", "jaccard", "lovasz", "focal", or several, joined by +, each with a factor before it or none.
        ignored: the id that does not count: `SegmentationData.ignored`.
        options: of each loss, by its name.

    Raises:
        UnknownNameError: a loss or an option that there is not; near names are suggested.
        OptionError: a factor that is no number above 0, a loss twice, or a value that an option cannot take.
    """
    factors: dict[str, float] = {}
    for term in text.split("+"):
        factor, _, name = term.rpartition("*")
        name = name.strip()
        if name not in LOSSES:
            raise unknown("loss", name, LOSSES, f"Losses are {', '.join(LOSSES)}; sums are such as 'ce+0.5*dice'.")
        if name in factors:
            raise OptionError(f"The loss {text!r} has {name!r} twice. Add up the factors.")
        try:
            factors[name] = float(factor or 1)
        except ValueError:
            raise OptionError(
                f"{factor.strip()!r} in the loss {text!r} is no number. Write such as 'ce+0.5*dice'."
            ) from None
        if not 0 < factors[name] < float("inf"):
            raise OptionError(f"A factor in the loss {text!r} is above 0, not {factor.strip()}.")
    given = options or {}
    for name in given:
        if name not in factors:
            raise unknown("loss with options", name, factors, f"The loss is {text!r}.")
    return WeightedSum([(factor, _loss(name, ignored, given.get(name, {}))) for name, factor in factors.items()])


_TINY = 1e-7
"""Keeps 0 / 0 at 0: a class that is neither in the truth nor given any probability."""


def _loss(name: str, ignored: int, options: Mapping[str, Any]) -> Loss:
    known = [p.name for p in signature(LOSSES[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise unknown(f"option of the loss {name!r}", option, known, f"It takes {', '.join(known) or 'none'}.")
    return LOSSES[name](ignored, **options)


def _weights(weights: Sequence[float] | Tensor | None) -> Tensor | None:
    if weights is None:
        return None
    values = torch.as_tensor(weights, dtype=torch.float32)
    if values.ndim != 1 or not bool((values >= 0).all()) or not bool(values.isfinite().all()):
        raise OptionError(f"Class weights are one number of 0 or more a class, not {weights!r}.")
    return values


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """total / count, and 0 with gradients of 0 where nothing counts; no value is fetched from the device to know."""
    return total / torch.where(count > 0, count, 1.0)


def _over_present(costs: Tensor, true: Tensor) -> Tensor:
    """The mean of costs (C,) over the classes of which some pixels are true (C,)."""
    present = (true > 0).to(costs.dtype)
    return _mean((costs * present).sum(), present.sum())
