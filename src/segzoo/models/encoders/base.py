"""What every encoder is."""

from torch import Tensor, nn

from segzoo.models.features import Features


class Encoder(nn.Module):
    """Abstract: image (N, in_channels, H, W) -> one map a level, as `features` says. Concrete encoders are final."""

    name: str
    """The name it was asked for by, in full: what rebuilds it."""

    in_channels: int
    features: Features

    multiple: int
    """Height and width must be multiples of this; the model pads to it."""

    smallest: int = 1
    """And this at least: more where convolutions without padding leave nothing of a smaller image."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each image channel, on a scale of 0 to 1: how the weights in use want their input normalised."""

    def forward(self, image: Tensor) -> list[Tensor]:
        raise NotImplementedError
