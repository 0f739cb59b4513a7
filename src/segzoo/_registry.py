"""What can be looked up by name, one `Registry` each: decoders, papers' networks, encoders, data sets, losses, ...

Entries are data. The object behind a name is imported when it is used, so a command lists and checks names without
torch. `segzoo.plugins` adds entries of other packages and of a user's own modules.
"""

import importlib
import importlib.metadata
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from segzoo._optional import needs
from segzoo.errors import OptionError, UnknownNameError, unknown

ENTRY_POINTS = "segzoo.plugins"
"""Group of entry points. Each names a module that registers something when it is imported."""

MODULE = r"(?=.{1,200}\Z)\w[\w-]*(\.\w[\w-]*)*"
"""The dotted name of a module. Messages suggest to pass it to a command, so nothing that a shell reads may be in it."""


@dataclass(frozen=True)
class Entry:
    """One name.

    Attributes:
        target: "package.module:object".
        default_encoder: of a decoder.
        plugin: the module that registered it; None if it is segzoo's own.
    """

    name: str
    target: str
    default_encoder: str | None = None
    plugin: str | None = None

    def load(self) -> Any:
        """The object itself."""
        module, _, path = self.target.partition(":")
        with needs(f"{self.name!r}"):
            loaded: Any = importlib.import_module(module)
        for attribute in path.split("."):
            loaded = getattr(loaded, attribute)
        return loaded


class Registry(Mapping[str, Entry]):
    """Entries by name, segzoo's own first. Looking up an unknown name, or listing, loads the installed plugins."""

    def __init__(self, what: str, *entries: Entry) -> None:
        """`what` is what a name stands for in messages: "decoder"."""
        self.what = what
        self._entries = {entry.name: entry for entry in entries}
        self._objects: dict[str, Any] = {}

    def register(self, entry: Entry, registered: Any) -> None:
        """Adds an entry of a plugin.

        Raises:
            OptionError: the name exists, unless it is the same target, of a module that was imported again.
        """
        existing = self._entries.get(entry.name)
        if existing is not None and existing.target != entry.target:
            owner = existing.plugin or "segzoo"
            raise OptionError(f"The {self.what} {entry.name!r} exists already, in {owner}. Choose another name.")
        self._entries[entry.name] = entry
        self._objects[entry.name] = registered

    def find(self, name: str) -> Entry:
        """The entry.

        Raises:
            UnknownNameError: there is none; similar names are suggested.
        """
        if name not in self:
            names = list(self)
            raise unknown(self.what, str(name), names, f"The {self.what}s are {', '.join(names)}.")
        return self._entries[name]

    def load(self, name: str) -> Any:
        """The object behind a name. Raises as `find`."""
        entry = self.find(name)
        return self._objects[name] if name in self._objects else entry.load()

    def own(self) -> list[Entry]:
        """Segzoo's own entries, without loading plugins."""
        return [entry for entry in self._entries.values() if entry.plugin is None]

    @property
    def objects(self) -> "Mapping[str, Any]":
        """The same names, with the objects instead of the entries; each is imported when it is looked up."""
        return _Objects(self)

    def __getitem__(self, name: str) -> Entry:
        if name not in self:
            raise KeyError(name)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        if name in self._entries:
            return True
        load_plugins()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        load_plugins()
        return len(self._entries)


class _Objects(Mapping[str, Any]):
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getitem__(self, name: str) -> Any:
        if name not in self._registry:
            raise KeyError(name)
        return self._registry.load(name)

    def __contains__(self, name: object) -> bool:
        return name in self._registry

    def __iter__(self) -> Iterator[str]:
        return iter(self._registry)

    def __len__(self) -> int:
        return len(self._registry)


_loaded = False


def load_plugins() -> None:
    """Imports the installed plugins, once. One that fails is reported as a warning and does not stop anything else."""
    global _loaded
    if _loaded:
        return
    _loaded = True  # first, since a plugin looks up names too
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except (Exception, SystemExit) as error:  # whatever a plugin raises
            warnings.warn(
                f"The plugin {point.value} cannot be loaded: {type(error).__name__}: {error}. Update or uninstall it.",
                stacklevel=2,
            )


_DECODERS = "segzoo.models.decoders"
DECODERS = Registry(
    "decoder",
    Entry("fcn32s", f"{_DECODERS}.fcn_skip:FCN32s", "vgg16"),
    Entry("fcn16s", f"{_DECODERS}.fcn_skip:FCN16s", "vgg16"),
    Entry("fcn8s", f"{_DECODERS}.fcn_skip:FCN8s", "vgg16"),
    Entry("fcn", f"{_DECODERS}.fcn:FCN", "resnet50"),
    Entry("unet", f"{_DECODERS}.unet:UNet", "unet"),
    Entry("segnet", f"{_DECODERS}.segnet:SegNet", "vgg16_bn"),
    Entry("deconvnet", f"{_DECODERS}.deconvnet:DeconvNet", "vgg16_bn"),
    Entry("deeplab_largefov", f"{_DECODERS}.deeplab_largefov:DeepLabLargeFOV", "vgg16"),
)

_PAPERS = "segzoo.models.papers"
PAPERS = Registry(
    "network",
    Entry("paper/fcn32s", f"{_PAPERS}.fcn:FCN32s"),
    Entry("paper/fcn16s", f"{_PAPERS}.fcn:FCN16s"),
    Entry("paper/fcn8s", f"{_PAPERS}.fcn:FCN8s"),
    Entry("paper/fcn8s_atonce", f"{_PAPERS}.fcn:FCN8sAtOnce"),
    Entry("paper/unet", f"{_PAPERS}.unet:UNet"),
    Entry("paper/unet_caffe", f"{_PAPERS}.unet:UNetCaffe"),
    Entry("paper/segnet", f"{_PAPERS}.segnet:SegNet"),
    Entry("paper/segnet_basic", f"{_PAPERS}.segnet_basic:SegNetBasic"),
    Entry("paper/bayesian_segnet", f"{_PAPERS}.bayesian_segnet:BayesianSegNet"),
    Entry("paper/bayesian_segnet_basic", f"{_PAPERS}.bayesian_segnet_basic:BayesianSegNetBasic"),
    Entry("paper/deconvnet", f"{_PAPERS}.deconvnet:DeconvNet"),
    Entry("paper/deeplab_largefov", f"{_PAPERS}.deeplab_largefov:DeepLabLargeFOV"),
    Entry("paper/xception_unet", f"{_PAPERS}.xception_unet:XceptionUNet"),
    Entry("paper/conv_deconv", f"{_PAPERS}.conv_deconv:ConvDeconv"),
)

ENCODERS = Registry("encoder", Entry("unet", "segzoo.models.encoders.unet:UNetEncoder"))
"""Encoders besides timm's."""

SHORT_NAMES = {"xception": "legacy_xception", "mobilenet": "mobilenetv2_100"}
"""timm's names for networks with a common short name; vgg16 and resnet101 are timm's names already."""

_DATASETS = "segzoo.data.datasets"
DATASETS = Registry(
    "data set",
    Entry("folder", f"{_DATASETS}.folder:FOLDER"),
    Entry("camvid", f"{_DATASETS}.camvid:CAMVID"),
    Entry("voc", f"{_DATASETS}.vision:VOC"),
    Entry("cityscapes", f"{_DATASETS}.vision:CITYSCAPES"),
    Entry("pet", f"{_DATASETS}.vision:PET"),
    Entry("lfw", f"{_DATASETS}.lfw:LFW"),
    Entry("drone", f"{_DATASETS}.drone:DRONE"),
)

_TRANSFORMS = "segzoo.data.transforms"
TRANSFORMS = Registry(
    "augmentation step",
    Entry("crop", f"{_TRANSFORMS}:Crop"),
    Entry("scale", f"{_TRANSFORMS}:Scale"),
    Entry("flip", f"{_TRANSFORMS}:Flip"),
    Entry("affine", f"{_TRANSFORMS}:Affine"),
    Entry("elastic", f"{_TRANSFORMS}:Elastic"),
    Entry("color_jitter", f"{_TRANSFORMS}:ColorJitter"),
    Entry("gray", f"{_TRANSFORMS}:Gray"),
    Entry("blur", f"{_TRANSFORMS}:Blur"),
    Entry("noise", f"{_TRANSFORMS}:Noise"),
    Entry("dropout", f"{_TRANSFORMS}:Dropout"),
)

_LOSSES = "segzoo.training.losses"
LOSSES = Registry(
    "loss",
    Entry("ce", f"{_LOSSES}:CrossEntropy"),
    Entry("dice", f"{_LOSSES}:Dice"),
    Entry("jaccard", f"{_LOSSES}:Jaccard"),
    Entry("lovasz", f"{_LOSSES}:Lovasz"),
    Entry("focal", f"{_LOSSES}:Focal"),
)

METRICS = Registry("metric")
"""Metrics that plugins add to those of `segzoo.metrics.ConfusionMatrix`."""

REPORT_KEYS: tuple[str, ...] = (
    "data",
    "pixel_accuracy",
    "mean_accuracy",
    "mean_iou",
    "frequency_weighted_iou",
    "mean_dice",
    "classes",
    "confusion",
    "images",
    "seconds",
)
"""Segzoo's own keys in the record of an evaluation, where the metrics of plugins join them."""

UPSAMPLE_MODES: tuple[str, ...] = ("bilinear", "nearest", "transposed", "upconv", "unpool")
"""Upsampling modes; each decoder supports some of them."""

CONVERTERS: tuple[str, ...] = ("torchvision", "smp")
"""Libraries whose checkpoints `segzoo.convert` reads."""


def required_plugins(decoder: str, encoder: str | None) -> tuple[str, ...]:
    """The modules that must be imported before a model of these can be built."""
    entries = [registry.get(name) for registry, name in ((DECODERS, decoder), (ENCODERS, encoder)) if name is not None]
    modules = (entry.plugin for entry in entries if entry is not None and entry.plugin is not None)
    return tuple(dict.fromkeys(modules))


def unknown_decoder(name: str) -> UnknownNameError:
    """The error for a name that is neither a decoder nor a network from a paper."""
    known = f"Decoders are {', '.join(DECODERS)}; networks from papers are {', '.join(PAPERS)}."
    return unknown("decoder", name, [*DECODERS, *PAPERS], known)


def unknown_source(name: str) -> UnknownNameError:
    """The error for a library that `segzoo.convert` cannot read from."""
    return unknown("source", name, CONVERTERS, f"Sources are {', '.join(CONVERTERS)}.")


def unknown_upsample_mode(name: str) -> UnknownNameError:
    """The error for an unknown upsampling mode."""
    return unknown("upsampling mode", name, UPSAMPLE_MODES, f"The upsampling modes are {', '.join(UPSAMPLE_MODES)}.")
