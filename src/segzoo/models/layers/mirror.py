"""The plan of a decoder that mirrors VGG's encoder: what SegNet and DeconvNet share."""

from dataclasses import dataclass

from segzoo.models.features import Features


@dataclass(frozen=True)
class Stage:
    """The convolutions at one level, each (channels in, channels out)."""

    channels: int
    """Of the map that comes in, which has those of the encoder's map at this level: switches are per channel."""

    convolutions: tuple[tuple[int, int], ...]

    last: bool
    """True for the stage at the shallowest map."""


def mirrored(features: Features) -> list[Stage]:
    """Stages from the deepest map but one up to the shallowest, with as many convolutions as VGG16 has at each.

    Three at levels 4 and 3 and 2, two at 1 and 0; the last one of a stage goes to the channels of the next stage. The
    last one of all keeps its channels: SegNet makes it the scores, DeconvNet puts the scores behind it.
    """
    levels, channels = features.levels[-2::-1], features.channels[-2::-1]
    after = (*channels[1:], channels[-1])
    return [
        Stage(here, ((here, here),) * ((2 if level < 2 else 3) - 1) + ((here, then),), last=level == levels[-1])
        for level, here, then in zip(levels, channels, after, strict=True)
    ]
