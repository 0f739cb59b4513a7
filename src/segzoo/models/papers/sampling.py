"""Monte Carlo dropout: samples of a prediction with dropout kept on, their mean and their variance.

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

MAX_BATCH_PIXELS = 2**20
"""Pixels of all samples that go through the network together; six samples of 360 x 480."""


class Sampled(NamedTuple):
    """Mean and variance of sampled predictions.

    Attributes:
        mask: class ids (H, W), uint8 (int32 for more than 256 classes): the most probable class of the mean.
        probabilities: mean over the samples, float32 (K, H, W), 0-1; they sum to 1 at each pixel.
        variance: variance of each class's probability over the samples, float32 (K, H, W), 0 to 0.25: the squared
            deviations divided by the number of samples. The paper's uncertainty map is its mean over the classes.
    """

    mask: NDArray[Any]
    probabilities: NDArray[np.float32]
    variance: NDArray[np.float32]


class Sampling(Paper):
    """Abstract: a network with dropout that `predict(image, samples=40)` keeps on."""

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
        """As `SegmentationModel.predict`; with `samples`, the mean and variance of that many random predictions.

        The dropout uses torch's generator of the device, so torch.manual_seed makes a result repeatable.

        Args:
            samples: number of predictions with dropout, 40 to 50 in the paper. None turns dropout off and returns one
                deterministic prediction.

        Returns:
            class ids if `samples` is None, otherwise a `Sampled`; for a list of images, a list.

        Raises:
            OptionError: fewer than one sample, or an unknown option.
            ImageError: as `SegmentationModel.predict`.
        """
        check_predict_options(self.spec.decoder, others)
        if samples is None:
            return super().predict(image)
        if type(samples) is not int or samples < 1:
            raise OptionError(f"samples must be a whole number, 1 or more, or None (no dropout), not {samples!r}.")
        if isinstance(image, list | tuple):
            return [self.predict(item, samples=samples) for item in image]
        self.warn_of_new_head()
        pixels = torch.tensor(read_image(image, self.spec.in_channels))  # type: ignore[arg-type]
        with evaluating(self), torch.inference_mode():
            for module in self.modules():
                if isinstance(module, nn.Dropout):
                    module.train()
            return self._aggregate(self.normalize(pixels[None].to(next(self.parameters()).device)), samples)

    def _aggregate(self, image: Tensor, samples: int) -> Sampled:
        # Welford's algorithm: the variance of equal samples is exactly zero, and only two maps are stored.
        mean = squares = torch.zeros((), device=image.device)
        for count, sample in enumerate(self._probabilities(image, samples), 1):
            deviation = sample - mean
            mean = mean + deviation / count
            squares = squares + deviation * (sample - mean)
        mask = self.to_mask(mean[None])[0]
        variance = (squares / samples).clamp(min=0)
        return Sampled(mask.cpu().numpy(), mean.cpu().numpy(), variance.cpu().numpy())

    def _probabilities(self, image: Tensor, samples: int) -> Iterator[Tensor]:
        """Yields samples (K, H, W), computed in batches of at most `MAX_BATCH_PIXELS`."""
        height, width = image.shape[-2:]
        batch_size = max(1, MAX_BATCH_PIXELS // (height * width))
        while samples > 0:
            count = min(batch_size, samples)
            logits = self(image.expand(count, -1, -1, -1))
            yield from logits.float().softmax(1)
            samples -= count
