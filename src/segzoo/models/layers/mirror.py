"""The stages of a decoder that mirrors VGG's encoder, for SegNet and DeconvNet."""

from dataclasses import dataclass

from segzoo.models.features import Features


@dataclass(frozen=True)
class Stage:
    """The convolutions at one level."""

    channels: int
    """Channels of the stage's input: those of the encoder's map at this level, as pooling indices are per channel."""

    convolutions: tuple[tuple[int, int], ...]
    """(channels in, channels out) of each."""

    last: bool
    """Whether this is the stage at the shallowest map."""


def mirrored_stages(features: Features) -> list[Stage]:
    """Stages from the second deepest map up to the shallowest, with as many convolutions as VGG16 has at each level.

    That is three at levels 4, 3 and 2, and two at 1 and 0. The last convolution of a stage outputs the channels of the
    next stage. The last one of all keeps its channels: SegNet replaces it by the head, DeconvNet appends the head.
    """
    levels, channels = features.levels[-2::-1], features.channels[-2::-1]
    return [
        Stage(own, ((own, own),) * (1 if level < 2 else 2) + ((own, following),), last=level == levels[-1])
        for level, own, following in zip(levels, channels, (*channels[1:], channels[-1]), strict=True)
    ]
