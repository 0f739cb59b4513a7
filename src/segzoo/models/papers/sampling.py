"""Dropout that stays on when the network predicts: samples of its answer, their mean, and how far they are apart.

Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680, section 3; Gal and Ghahramani, arXiv 1506.02142.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segzoo._registry import check_predict_options
from segzoo.data.images import ImageLike, read_image
from segzoo.errors import OptionError
from segzoo.models.base import evaluating
from segzoo.models.papers.base import Paper

PIXELS_AT_ONCE = 2**20
"""Of samples that go through the network together; six of 360 x 480."""


class Sampled(NamedTuple):
    """What samples of a prediction come to.

    Attributes:
        labels: the most probable class of the mean, class ids (H, W), uint8 (int32 for more than 256 classes).
        probabilities: the mean over the samples, float32 (K, H, W), 0-1; they sum to 1 at each pixel.
        variance: of each class's probability over the samples, float32 (K, H, W), 0 to 0.25: the squared deviations
            divided by the number of samples. The paper's uncertainty map is its mean over the classes.
    """

    labels: NDArray[Any]
    probabilities: NDArray[np.float32]
    variance: NDArray[np.float32]


class Sampling(Paper):
    """Abstract: a network with dropout, which `predict(image, samples=40)` keeps on."""

    @overload  # a str is a sequence of str to the type checker
    def predict(self, image: ImageLike, *, samples: None = None) -> NDArray[Any]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, image: Sequence[ImageLike], *, samples: None = None) -> list[NDArray[Any]]: ...
    @overload
    def predict(self, image: ImageLike, *, samples: int) -> Sampled: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, image: Sequence[ImageLike], *, samples: int) -> list[Sampled]: ...
    def predict(
        self, image: ImageLike | Sequence[ImageLike], *, samples: int | None = None, **others: Any
    ) -> NDArray[Any] | list[NDArray[Any]] | Sampled | list[Sampled]:
        """As `SegmentationModel.predict`, and with `samples` the mean and the variance of so many random answers.

        torch's generator of the device draws the dropout, so torch.manual_seed repeats a result.

        Args:
            samples: None turns the dropout off: one answer, always the same. The paper takes 40 to 50.

        Returns:
            class ids without samples, a `Sampled` with them; for a list, a list.

        Raises:
            OptionError: fewer than one sample, or another option.
            ImageError: as `SegmentationModel.predict`.
        """
        check_predict_options(self.config.decoder, others)
        if samples is None:
            return super().predict(image)
        if type(samples) is not int or samples < 1:
            raise OptionError(f"samples is a whole number from 1 up, or None for one answer, not {samples!r}.")
        if isinstance(image, list | tuple):
            return [self.predict(one, samples=samples) for one in image]
        self.warn_of_new_head()
        pixels = torch.tensor(read_image(image, self.config.in_channels))  # type: ignore[arg-type]
        with evaluating(self), torch.inference_mode():
            for module in self.modules():
                if isinstance(module, nn.Dropout):
                    module.train()
            return self._sampled(self.normalise(pixels[None].to(next(self.parameters()).device)), samples)

    def _sampled(self, image: Tensor, samples: int) -> Sampled:
        # Welford's way: one sample at a time, exact zero where all are equal, and no more than two maps to keep.
        mean = squares = torch.zeros((), device=image.device)
        for number, sample in enumerate(self._probabilities(image, samples), 1):
            away = sample - mean
            mean = mean + away / number
            squares = squares + away * (sample - mean)
        labels = self.labels_of(mean[None])[0]
        variance = (squares / samples).clamp(min=0)
        return Sampled(labels.cpu().numpy(), mean.cpu().numpy(), variance.cpu().numpy())

    def _probabilities(self, image: Tensor, samples: int) -> Iterator[Tensor]:
        """Samples (K, H, W), one after the other, computed a few at a time."""
        height, width = image.shape[-2:]
        together = max(1, PIXELS_AT_ONCE // (height * width))
        while samples > 0:
            count = min(together, samples)
            logits = self(image.expand(count, -1, -1, -1))
            yield from logits.float().softmax(1)
            samples -= count
