"""`Encoder`: the base class of all encoders."""

from torch import Tensor, nn

from segzoo.models.features import Features


class Encoder(nn.Module):
    """Abstract: image (N, in_channels, H, W) -> one map per level, as in `features`. Concrete encoders are final."""

    name: str
    """The full name, from which the encoder can be rebuilt."""

    in_channels: int
    features: Features

    size_divisibility: int
    """Height and width of the image must be multiples of this; the model pads it."""

    min_size: int = 1
    """Minimum height and width. Above 1 if unpadded convolutions would leave nothing of a smaller image."""

    mean: tuple[float, ...]
    """Mean of each image channel that the weights expect, on a scale of 0 to 1."""

    std: tuple[float, ...]
    """Standard deviation of each image channel, likewise."""

    def forward(self, image: Tensor) -> list[Tensor]:
        raise NotImplementedError
