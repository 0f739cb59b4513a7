"""Any timm model that forms a feature pyramid, as an encoder.

What timm says of a network (`feature_info`) is checked against one dry run before anything is built on it, so that a
network that cannot be an encoder says so here and not in the middle of a decoder.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import timm
from timm.models import model_entrypoint
from torch import Tensor

from segzoo.errors import PairingError
from segzoo.models.encoders.base import Encoder
from segzoo.models.encoders.weights import cannot_fetch, load_weights, no_network_if_offline
from segzoo.models.features import Features
from segzoo.models.layers.dilation import dilate, dry_run

_WAY_OUT = "'resnet50', 'mobilenet' and 'convnext_tiny' can."


@dataclass(frozen=True)
class Family:
    """What timm's own records do not say about the networks of one of its modules."""

    options: dict[str, Any] = field(default_factory=dict)
    """Arguments for timm.create_model."""

    pads_to_own_size: bool = False
    """`multiple` is the size it was designed for (window x 32): its windows then never need padding inside, which the
    exporter cannot follow. Of HaloNet's module some have no windows, and pad without need."""

    smallest: int = 1
    before_pool: bool = False
    classifier: tuple[int, int] | None = None


_FAMILIES = {
    "byoanet": Family(pads_to_own_size=True),
    "inception_resnet_v2": Family(smallest=96),
    "inception_v3": Family(smallest=96),
    "inception_v4": Family(smallest=96),
    "vgg": Family(before_pool=True, classifier=(7, 4096)),
    "swin_transformer": Family({"strict_img_size": False}, pads_to_own_size=True),
    "swin_transformer_v2": Family({"strict_img_size": False}, pads_to_own_size=True),
    "maxxvit": Family(pads_to_own_size=True),
}


class TimmEncoder(Encoder):
    """A timm network that returns its intermediate maps.

    Args:
        name: timm's name, with a tag or without: "resnet101", "resnet101.a1h_in1k".
        in_channels: channels of the image.
        output_stride: None keeps the network as it is; 8 or 16 keeps deep maps at that stride, by timm's own means
            where it has them, else by `segzoo.models.layers.dilation`.
        weights: None for random ones, "imagenet" for timm's, or the path of a timm or torchvision file.
        measure: False takes timm's word for the maps instead of a dry run, for a network that was measured before.

    Raises:
        PairingError: it forms no pyramid, runs only at its own size, or cannot have this output stride.
        DownloadError: "imagenet" without a network, or where timm has no weights.
        CheckpointError: the file does not fit.
    """

    net: Any  # one of timm's feature wrappers, whose attributes carry no types

    def __init__(
        self, name: str, in_channels: int, output_stride: int | None, weights: str | None, measure: bool = True
    ) -> None:
        super().__init__()
        family = _FAMILIES.get(model_entrypoint(name.partition(".")[0]).__module__.rpartition(".")[2], Family())
        self.name = name
        self.in_channels = in_channels
        try:
            with no_network_if_offline():
                self.net, dilated = _create(name, in_channels, output_stride, family, pretrained=weights == "imagenet")
        except (OSError, RuntimeError) as error:
            if weights == "imagenet":
                raise cannot_fetch(name, error) from error
            raise PairingError(f"Encoder {name!r} gives no feature maps: {error} {_WAY_OUT}") from error
        config = self.net.pretrained_cfg
        deepest = self.net.feature_info.reduction()[-1]
        # At an output stride of 8 no map is smaller than 1/8: more padding would only add borders that are not there.
        needed = output_stride or max(32, deepest)
        self.smallest = family.smallest
        self.multiple = config["input_size"][-1] if family.pads_to_own_size else needed
        self.mean, self.std = (_per_channel(config[key], in_channels) for key in ("mean", "std"))
        # EfficientNet's wrapper has no such attribute, and is NCHW.
        self._channels_last = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")
        self.features = self._check(output_stride, dilated, measure)
        self.features = replace(self.features, before_pool=family.before_pool, classifier=family.classifier)
        if weights not in (None, "imagenet"):
            record = load_weights(self.net, weights)
            if record:
                self.mean, self.std = (_per_channel(tuple(record[key]), in_channels) for key in ("mean", "std"))

    def forward(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.net(image)
        if self._channels_last:
            return [m.permute(0, 3, 1, 2).contiguous() for m in maps]
        return maps

    def _check(self, output_stride: int | None, dilated: bool, measure: bool) -> Features:
        """Measures the pyramid, brings it to the output stride where timm could not, and measures again."""
        declared = tuple(self.net.feature_info.reduction())
        channels = tuple(self.net.feature_info.channels())
        plain = (1, 2, 4, 8, 16, 32)
        first = plain.index(declared[0]) if declared[0] in plain else -1
        levels = tuple(range(first, first + len(declared)))
        if output_stride is None or not dilated:
            if len(declared) < 2 or tuple(2**level for level in levels) != declared:
                raise PairingError(
                    f"Encoder {self.name!r} forms no pyramid: its strides are {list(declared)}. {_WAY_OUT}"
                )
            if measure:
                self._measure(channels, declared)
        if output_stride is None:
            return Features(levels, channels, declared)
        strides = tuple(min(2**level, output_stride) for level in levels)
        if not dilated:
            try:
                dilate(self.net, self.in_channels, output_stride, self._probe_size)
            except PairingError as error:
                raise PairingError(
                    f"Encoder {self.name!r} cannot have output_stride={output_stride}: {error}. {_WAY_OUT}"
                ) from None
        if measure:
            self._measure(channels, strides)
        return Features(levels, channels, strides)

    def _measure(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        size = self._probe_size
        try:
            maps = dry_run(self, self.in_channels, size)
        except (AssertionError, RuntimeError) as error:
            # Both types, any text: what a network says at a size that it was not made for.
            reason = str(error).strip().partition("\n")[0]
            raise PairingError(
                f"Encoder {self.name!r} does not run at sizes other than its own {self._own_size()} ({reason}). "
                f"{_WAY_OUT}"
            ) from None
        measured = tuple(2 ** round(math.log2(size / m.shape[-1])) for m in maps)
        if (measured, tuple(m.shape[1] for m in maps)) != (strides, channels):
            raise PairingError(
                f"Encoder {self.name!r} cannot have strides {list(strides)}: it returns {list(measured)}. {_WAY_OUT}"
            )

    @property
    def _probe_size(self) -> int:
        """Of the image for dry runs: large enough that rounding does not blur the strides, and not the own size."""
        size = max(256, 2 * self.multiple)
        return size + self.multiple if size == self.net.pretrained_cfg["input_size"][-1] else size

    def _own_size(self) -> str:
        return "x".join(map(str, self.net.pretrained_cfg["input_size"][1:]))


def _create(
    name: str, in_channels: int, output_stride: int | None, family: Family, *, pretrained: bool
) -> tuple[Any, bool]:
    """The network, and whether timm itself gave it the output stride."""
    options = {"features_only": True, "in_chans": in_channels, "pretrained": pretrained, **family.options}
    if output_stride is not None:
        try:
            return timm.create_model(name, output_stride=output_stride, **options), True
        except (AssertionError, TypeError):
            pass  # timm's two ways to refuse an output stride: VGG's and xception's
    return timm.create_model(name, **options), False


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """RGB's own values for three channels; for any other number the mean of the three for each."""
    if channels == len(values):
        return tuple(float(v) for v in values)
    return (sum(values) / len(values),) * channels
