"""Any timm model that forms a feature pyramid, as an encoder.

timm's description of a network (`feature_info`) is compared with a dry run before a decoder is built on it, so that a
network that cannot be an encoder fails here and not inside a decoder.
"""

import contextlib
import math
from dataclasses import dataclass, field, replace
from typing import Any

import timm
from timm.models import model_entrypoint
from torch import Tensor

from segzoo.errors import PairingError
from segzoo.models.encoders.base import Encoder
from segzoo.models.encoders.pretrained import cannot_fetch, load_weights, timm_downloads
from segzoo.models.features import Features
from segzoo.models.layers.dilation import dilate, dry_run

_ALTERNATIVES = "Encoders that work: 'resnet50', 'mobilenet' and 'convnext_tiny'."


@dataclass(frozen=True)
class Family:
    """What timm does not state about the networks of one of its modules."""

    options: dict[str, Any] = field(default_factory=dict)
    """Arguments for timm.create_model."""

    pads_to_own_size: bool = False
    """Whether `size_divisibility` is the size that the network was designed for (window x 32). Its windows then never
    need padding inside, which the exporter cannot trace. Some networks of HaloNet's module have no windows; they are
    padded unnecessarily."""

    min_size: int = 1
    pre_pool: bool = False
    fc_head: tuple[int, int] | None = None


_FAMILIES = {
    "byoanet": Family(pads_to_own_size=True),
    "inception_resnet_v2": Family(min_size=96),
    "inception_v3": Family(min_size=96),
    "inception_v4": Family(min_size=96),
    "vgg": Family(pre_pool=True, fc_head=(7, 4096)),
    "swin_transformer": Family({"strict_img_size": False}, pads_to_own_size=True),
    "swin_transformer_v2": Family({"strict_img_size": False}, pads_to_own_size=True),
    "maxxvit": Family(pads_to_own_size=True),
}

_MEASURED: set[tuple[Any, ...]] = set()
"""Networks that passed their dry run in this process. One takes longer than building a small network."""


class TimmEncoder(Encoder):
    """A timm network that returns its intermediate maps.

    Args:
        name: timm's name, with or without a tag: "resnet101", "resnet101.a1h_in1k".
        in_channels: channels of the image.
        output_stride: None leaves the network unchanged; 8 or 16 keeps deep maps at that stride, through timm if it
            supports that, else through `segzoo.models.layers.dilation`.
        weights: None for random weights, "imagenet" for timm's, or the path of a file, as for `load_weights`.
        measure: False trusts timm's description of the maps instead of a dry run, for a network measured before.

    Raises:
        PairingError: the network forms no pyramid, runs at one size only, or does not support this output stride.
        DownloadError: "imagenet" without internet access, or timm has no weights.
        CheckpointError: the file does not fit.
    """

    net: Any  # one of timm's feature wrappers, whose attributes are untyped

    def __init__(
        self, name: str, in_channels: int, output_stride: int | None, weights: str | None, measure: bool = True
    ) -> None:
        super().__init__()
        family = _FAMILIES.get(model_entrypoint(name.partition(".")[0]).__module__.rpartition(".")[2], Family())
        self.name = name
        self.in_channels = in_channels
        pretrained = weights == "imagenet"
        try:
            with timm_downloads(name) if pretrained else contextlib.nullcontext():
                self.net, dilated = _create(name, in_channels, output_stride, family, pretrained=pretrained)
        except (OSError, RuntimeError) as error:
            if pretrained:
                raise cannot_fetch(name, error) from error
            raise PairingError(f"Encoder {name!r} returns no feature maps: {error} {_ALTERNATIVES}") from error
        config = self.net.pretrained_cfg
        deepest = self.net.feature_info.reduction()[-1]
        # At output stride 8 no map is smaller than 1/8 of the image: padding to more would only add empty borders.
        needed = output_stride or max(32, deepest)
        self.min_size = family.min_size
        self.size_divisibility = config["input_size"][-1] if family.pads_to_own_size else needed
        self.mean, self.std = (_per_channel(config[key], in_channels) for key in ("mean", "std"))
        # EfficientNet's wrapper lacks the attribute and is NCHW.
        self._channels_last = str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC")
        self.features = self._check(output_stride, dilated, measure)
        self.features = replace(self.features, pre_pool=family.pre_pool, fc_head=family.fc_head)
        if weights not in (None, "imagenet"):
            spec = load_weights(self.net, weights)
            if spec is not None:
                self.mean, self.std = (_per_channel(values, in_channels) for values in (spec.mean, spec.std))

    def forward(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.net(image)
        if self._channels_last:
            return [m.permute(0, 3, 1, 2).contiguous() for m in maps]
        return maps

    def _check(self, output_stride: int | None, dilated: bool, measure: bool) -> Features:
        """Measures the pyramid; if timm could not set the output stride, dilates the network and measures again."""
        declared = tuple(self.net.feature_info.reduction())
        channels = tuple(self.net.feature_info.channels())
        plain = (1, 2, 4, 8, 16, 32)
        first = plain.index(declared[0]) if declared[0] in plain else -1
        levels = tuple(range(first, first + len(declared)))
        if output_stride is None or not dilated:
            if len(declared) < 2 or tuple(2**level for level in levels) != declared:
                raise PairingError(
                    f"Encoder {self.name!r} forms no pyramid: its strides are {list(declared)}. {_ALTERNATIVES}"
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
                    f"Encoder {self.name!r} does not support output_stride={output_stride}: {error}. {_ALTERNATIVES}"
                ) from None
        if measure:
            self._measure(channels, strides)
        return Features(levels, channels, strides)

    def _measure(self, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        size = self._probe_size
        # The function, because a plugin may replace the network that timm registers by this name.
        network = (model_entrypoint(self.name.partition(".")[0]), self.name, self.in_channels, channels, strides, size)
        if network in _MEASURED:
            return
        try:
            maps = dry_run(self, self.in_channels, size)
        except (AssertionError, RuntimeError) as error:
            # Networks made for one size fail with either type and any message.
            reason = str(error).strip().partition("\n")[0]
            raise PairingError(
                f"Encoder {self.name!r} does not run at sizes other than its own {self._own_size()} ({reason}). "
                f"{_ALTERNATIVES}"
            ) from None
        measured = tuple(2 ** round(math.log2(size / m.shape[-1])) for m in maps)
        if (measured, tuple(m.shape[1] for m in maps)) != (strides, channels):
            raise PairingError(
                f"Encoder {self.name!r} does not support strides {list(strides)}: it returns {list(measured)}. "
                f"{_ALTERNATIVES}"
            )
        _MEASURED.add(network)

    @property
    def _probe_size(self) -> int:
        """Image size for dry runs: large enough for unambiguous strides, and not the network's own size."""
        size = max(256, 2 * self.size_divisibility)
        return size + self.size_divisibility if size == self.net.pretrained_cfg["input_size"][-1] else size

    def _own_size(self) -> str:
        return "x".join(map(str, self.net.pretrained_cfg["input_size"][1:]))


def _create(
    name: str, in_channels: int, output_stride: int | None, family: Family, *, pretrained: bool
) -> tuple[Any, bool]:
    """The network, and whether timm has set the output stride."""
    options = {"features_only": True, "in_chans": in_channels, "pretrained": pretrained, **family.options}
    if output_stride is not None:
        try:
            return timm.create_model(name, output_stride=output_stride, **options), True
        except (AssertionError, TypeError):
            pass  # how timm rejects an output stride: one error for VGG, the other for xception
    return timm.create_model(name, **options), False


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """The values themselves if there is one per channel; otherwise their mean for each channel."""
    if channels == len(values):
        return tuple(float(v) for v in values)
    return (sum(values) / len(values),) * channels
