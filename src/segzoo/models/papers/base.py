"""`Paper`: the base class of complete networks reproduced from papers."""

import statistics
from typing import ClassVar

from torch import Tensor

from segzoo.errors import PairingError
from segzoo.models.base import SegmentationModel
from segzoo.spec import ChannelOrder, ModelSpec


class Paper(SegmentationModel):
    """Abstract: a complete network as published, including layers, sizes, counts and the preprocessing of its input.

    Concrete papers take `(spec, *, options...)`. Each defines its own options: JSON values with defaults. A file in
    this folder reads like the paper's figure, and its docstring states what is known only from secondary sources. The
    class variables describe the published network; `spec` describes the model.
    """

    paper: ClassVar[str]
    """Authors, title, arXiv number."""

    default_num_classes: ClassVar[int]
    """Number of classes of the published network; any other can be requested."""

    default_in_channels: ClassVar[int] = 3
    """Number of image channels of the published network; any other can be requested."""

    pixel_mean: ClassVar[tuple[float, ...]] = (0.0, 0.0, 0.0)
    """Mean that the authors subtract from each channel, RGB, on a scale of 0 to 255."""

    pixel_scale: ClassVar[float] = 1.0
    """Divisor applied after the mean is subtracted: 1 keeps 0-255, 255 gives 0-1."""

    channel_order: ClassVar[ChannelOrder] = "RGB"
    """Order of the channels that the authors trained with."""

    size_divisibility: ClassVar[int] = 1
    """`network` takes images whose height and width are multiples of this."""

    min_size: ClassVar[int] = 1
    """Smallest height and width that `network` takes, pixels."""

    context: ClassVar[int | None] = None
    """As `ModelSpec.context`."""

    def __init__(self, spec: ModelSpec, size_divisibility: int | None = None) -> None:
        """`size_divisibility` overrides the class variable in a network whose options determine it."""
        mean = self.pixel_mean
        if spec.in_channels != self.default_in_channels:
            mean = (statistics.fmean(mean),) * spec.in_channels
        super().__init__(
            spec.replace(
                mean=spec.mean or tuple(value / 255 for value in mean),
                std=spec.std or (self.pixel_scale / 255,) * spec.in_channels,
                # BGR is an order of three channels only.
                channel_order=self.channel_order if spec.in_channels == 3 else "RGB",
                size_divisibility=size_divisibility or self.size_divisibility,
                min_size=self.min_size,
                context=self.context,
            )
        )

    def network(self, image: Tensor) -> Tensor:
        """The published network: image (N, in_channels, H, W), H and W multiples of `size_divisibility` -> logits.

        The logits have the image's size, or a size specific to the paper if `forward_padded` resizes or pads.
        """
        raise NotImplementedError

    def forward_padded(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        return self.network(self._pad(image)), None

    def start_from(self, weights: str) -> bool:
        """Loads ImageNet weights into the first layers, as the authors did: `create(encoder_weights=...)`.

        The mean and standard deviation become those that the weights were trained with.

        Returns:
            False if fc6 and fc7 stay random because the weights contain no layers of their shape.

        Raises:
            PairingError: the network has no layers that pretrained weights fit.
            DownloadError, CheckpointError: the weights cannot be loaded or do not fit.
        """
        raise PairingError(
            f"{self.spec.decoder!r} takes no encoder_weights: its authors trained it from random weights. FCN, SegNet, "
            "Bayesian SegNet, DeconvNet and DeepLab-LargeFOV take VGG16's."
        )
