"""What every paper's network is."""

import statistics
from typing import ClassVar

from torch import Tensor

from segzoo.errors import PairingError
from segzoo.models.base import ModelConfig, SegmentationModel


class Paper(SegmentationModel):
    """Abstract: a network as it was published, whole: layers, sizes, counts, and how it wants its input.

    Concrete papers are final. They take `(config, *, options...)`; the options are theirs alone, each a JSON value with
    a default. A file of this folder reads like the paper's figure, and its docstring says what is known from secondary
    sources only.
    """

    paper: ClassVar[str]
    """Authors, title, arXiv number."""

    classes: ClassVar[int]
    """The number of classes of the published network; any other can be asked for."""

    channels: ClassVar[int] = 3
    """Channels of the image that it takes; any other number can be asked for."""

    pixel_mean: ClassVar[tuple[float, ...]] = (0.0, 0.0, 0.0)
    """What the authors subtract from each channel, RGB, on a scale of 0 to 255."""

    pixel_scale: ClassVar[float] = 1.0
    """What they divide by after that: 1 leaves 0-255, and 255 makes 0-1."""

    multiple = 1

    def __init__(self, config: ModelConfig) -> None:
        mean = self.pixel_mean
        if config.in_channels != self.channels:
            mean = (statistics.fmean(mean),) * config.in_channels
        scale = (self.pixel_scale / 255,) * config.in_channels
        super().__init__(config, tuple(value / 255 for value in mean), scale)
        if config.in_channels != 3:
            self.channel_order = "RGB"  # blue, green and red are an order of three channels only

    def network(self, image: Tensor) -> Tensor:
        """The published network: image (N, in_channels, H, W), H and W multiples of `multiple` -> logits.

        The logits are of the image's size, or of a size of the paper's own where `scores` says how they come to it.
        """
        raise NotImplementedError

    def scores(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        return self.network(self._pad(image)), None

    def start_from(self, weights: str) -> bool:
        """Fills its first layers from ImageNet's weights, as its authors did: `create(encoder_weights=...)`.

        Mean and standard deviation become those of these weights.

        Returns:
            False where fc6 and fc7 are left at random, since the weights have none of their shape.

        Raises:
            PairingError: a network that starts at random.
            DownloadError, CheckpointError: the weights cannot be had, or do not fit.
        """
        raise PairingError(
            "A network that starts at random takes no encoder_weights; VGG16's go into FCN's and others'."
        )
