"""`ModelSpec` and `ExportSpec`: the description of a model, the same in memory, in .safetensors and in .onnx.

Both file formats store pairs of strings. Each field is one pair whose value is JSON, so any viewer of these files can
show it.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from segzoo._portable import portable_info
from segzoo._registry import MODULE
from segzoo._text import copy_json, load_json
from segzoo._version import __version__
from segzoo.classes import ClassSet
from segzoo.errors import OptionError, quoted
from segzoo.schema import checked, from_record

FORMAT_VERSION = 1
"""Version of the fields below. A newer version than this is refused."""

_GENERATIONS = 16

PREFIX = "segzoo."
"""Prefix of segzoo's keys in a file's metadata."""

Task = Literal["multiclass", "binary", "multilabel"]
InputDtype = Literal["uint8", "uint16", "float32"]
ChannelOrder = Literal["RGB", "BGR"]
GraphInput = Literal["image", "tensor"]
Precision = Literal["fp32", "fp16", "int8"]

# The largest values are far beyond any model, so that a small file cannot request gigabytes.
Channels = Annotated[int, Field(ge=1), Field(le=1024)]
Stride = Annotated[int, Field(ge=1), Field(le=1024)]
Pixels = Annotated[int, Field(ge=1), Field(le=65_536)]


def _as_float(value: Any) -> Any:
    try:
        return float(value) if type(value) is int else value
    except OverflowError:  # JSON integers have no upper limit
        return math.inf


Values = tuple[Annotated[float, Field(allow_inf_nan=True), BeforeValidator(_as_float)], ...]
"""Of each channel. Together they are checked for being finite."""


JsonObject = Annotated[dict[str, Any], AfterValidator(copy_json)]
"""A copy, as a file gives it back, and not the caller's own."""


@checked
class ModelSpec:
    """Everything that rebuilds a model except its weights.

    Raises:
        OptionError: values that are not allowed; all of them are named.
    """

    decoder: str
    """Name of a decoder, or of a complete network from a paper ("paper/fcn8s")."""

    encoder: str | None
    """Name of the encoder; None for a network from a paper."""

    classes: Annotated[
        ClassSet, BeforeValidator(lambda value: ClassSet.from_dict(value) if isinstance(value, Mapping) else value)
    ]
    """Names and colors. A binary model has two names: background and foreground."""

    task: Task = "multiclass"
    """How logits become a mask. "multiclass": argmax over the classes. "binary": one logit, thresholded at probability
    0.5. "multilabel": one independent logit per class, each thresholded the same way."""

    options: JsonObject = field(default_factory=dict)
    """Keyword options of the decoder, as they were passed; JSON values."""

    in_channels: Channels = 3
    """Number of image channels."""

    input_dtype: InputDtype = "uint8"
    """Data type of images: 0-255, 0-65535, or floats on a scale of 0 to 1."""

    channel_order: ChannelOrder = "RGB"
    """Channel order inside the network. Images, `mean` and `std` are always RGB."""

    mean: Values = ()
    """Mean of each channel on a scale of 0 to 1; empty until the model is built."""

    std: Values = ()
    """Standard deviation of each channel on the same scale; empty until the model is built."""

    output_stride: Stride | None = 32
    """Stride of the encoder's deepest feature map; None for a network from a paper."""

    size_divisibility: Pixels = 1
    """The model pads height and width to multiples of this."""

    min_size: Pixels = 1
    """The model pads height and width to at least this many pixels."""

    context: Pixels | None = None
    """How many pixels on each side can influence a pixel's class, rounded up to a multiple of `size_divisibility`.
    Tiles with that much context give the mask of the whole image. None if it is unknown."""

    requires: tuple[str, ...] = ()
    """Modules that register the decoder or the encoder, if these are not segzoo's own. Reading a file imports none."""

    info: JsonObject = field(default_factory=dict)
    """Further facts about the weights, as JSON values: training data, metrics, license."""

    version: str = __version__
    """Version of segzoo that created this spec."""

    format_version: Annotated[int, Field(ge=1), Field(le=FORMAT_VERSION)] = FORMAT_VERSION
    """Version of the file format."""

    def __post_init__(self) -> None:
        faults = []
        if len(self.requires) > 2 or not all(re.fullmatch(MODULE, name) for name in self.requires):
            faults.append(f"requires must be the names of at most two modules, not {quoted(self.requires, 80)}")
        if self.task == "binary" and len(self.classes) != 2:
            faults.append(f"task 'binary' needs two class names, not {len(self.classes)}")
        values = (*self.mean, *self.std)
        if values and not (len(self.mean) == len(self.std) == self.in_channels and all(map(math.isfinite, values))):
            faults.append(
                f"mean and std must be {self.in_channels} finite numbers each, not {quoted(self.mean)} and "
                f"{quoted(self.std)}"
            )
        elif values and min(self.std) <= 0:
            faults.append(f"std must be above 0, not {self.std}")
        elif values and (min(self.std) < _SMALLEST or max(map(abs, values)) > _LARGEST):
            faults.append(f"mean and std must be numbers that float32 can hold, not {self.mean} and {self.std}")
        if faults:
            raise OptionError(f"{'; '.join(faults)}.")

    @property
    def num_classes(self) -> int:
        """Channels of the logits: 1 for a binary model, otherwise one per class."""
        return 1 if self.task == "binary" else len(self.classes)

    @property
    def title(self) -> str:
        """A name for the model in text: "unet on mobilenet", or the name of a network from a paper."""
        return f"{self.decoder} on {self.encoder}" if self.encoder else self.decoder

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return _to_json(vars(self) | {"classes": self.classes.to_dict()})

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "ModelSpec":
        """The inverse of `to_dict`. Unknown keys are ignored.

        Raises:
            OptionError: fields are missing or invalid, all of which are named; or the format version is newer than
                this segzoo's.
        """
        newer = record.get("format_version") if isinstance(record, Mapping) else None
        if type(newer) is int and newer > FORMAT_VERSION:
            raise OptionError(
                f"It has format version {quoted(newer)}, but segzoo {__version__} reads versions up to "
                f"{FORMAT_VERSION} only. Update segzoo."
            )
        return from_record(cls, record, optional=_ADDED)

    def to_metadata(self) -> dict[str, str]:
        """The string pairs for a file's metadata: {"segzoo.decoder": '"unet"', ...}.

        `version` and `format_version` are those of the segzoo that writes the file.
        """
        return encode(self.to_dict() | {"version": __version__, "format_version": FORMAT_VERSION})

    @classmethod
    def from_metadata(cls, pairs: Mapping[str, str]) -> "ModelSpec | None":
        """The inverse of `to_metadata`; None if segzoo did not write the file.

        Raises:
            OptionError: as `from_dict`, or a value is not JSON.
        """
        record = decode(pairs)
        return cls.from_dict(record) if record else None

    def restarted(self, **facts: Any) -> "ModelSpec":
        """The spec of the same network before it is trained again: its `info`, with `facts`, becomes "started_from".

        At most 16 generations are kept, so that a model that is trained anew every night stays readable.
        """
        return self.replace(info={"started_from": _recent(self.info, _GENERATIONS) | facts})

    def portable(self) -> "ModelSpec":
        """The spec for a file to hand on: its `info` names no folders of this machine."""
        return self.replace(info=portable_info(self.info))

    def replace(self, **changes: Any) -> "ModelSpec":
        """A copy with some fields changed; the spec itself, which has been checked, if all of them are equal."""
        if all(getattr(self, name, dataclasses.MISSING) == value for name, value in changes.items()):
            return self
        return dataclasses.replace(self, **changes)


@checked
class ExportSpec:
    """Inputs and outputs of an exported graph, and its verification. Stored in .onnx files as `segzoo.export`."""

    input: GraphInput = "image"
    """"image": pixels (N, H, W, C) in, a mask out. "tensor": normalized floats (N, C, H, W) in, logits out."""

    precision: Precision = "fp32"

    static_shape: tuple[Pixels, Pixels, Pixels] | None = None
    """(batch, height, width) of a graph with one fixed size; None if all three are dynamic."""

    confidence: bool = False
    """Whether the graph has an output `confidence`, the probability of each pixel's class."""

    logits: bool = False
    """Whether the graph has an output `logits`."""

    opset: Annotated[int, Field(ge=1), Field(le=1000)] = 18

    padded_logits: str | None = None
    """Name of the value that the argmax reads: logits (N, K, H', W') whose top left H x W belong to the image.

    A runtime can fetch it for tiles and test-time augmentation. None in a "tensor" graph.
    """

    weights_sha256: str | None = None
    """Digest of the exported weights, as `models.parameters.weights_sha256` computes it."""

    torch: str | None = None
    """Version of torch that exported the graph."""

    verification: JsonObject | None = None
    """How the graph was compared with the model, and the result."""

    quantization: JsonObject | None = None
    """How int8 changed the outputs."""

    @property
    def half(self) -> bool:
        """Whether weights and arithmetic are float16; inputs and outputs keep their types."""
        return self.precision == "fp16"

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return _to_json(vars(self))

    def to_metadata(self) -> dict[str, str]:
        """The string pair for an .onnx file's metadata."""
        return encode({"export": self.to_dict()})

    @classmethod
    def from_metadata(cls, pairs: Mapping[str, str]) -> "ExportSpec":
        """The inverse of `to_metadata`.

        Raises:
            OptionError: as `from_dict`, or there is no such pair, or it is not JSON.
        """
        record = decode(pairs, only="export")
        if not record:
            raise OptionError("the record segzoo.export is missing.")
        return cls.from_dict(record["export"])

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "ExportSpec":
        """The inverse of `to_dict`. Unknown keys are ignored.

        Raises:
            OptionError: fields are missing or invalid, all of which are named.
        """
        return from_record(cls, record)


def encode(record: Mapping[str, Any]) -> dict[str, str]:
    """Turns {"encoder": "vgg16"} into {"segzoo.encoder": '"vgg16"'}: every value is JSON."""
    return {PREFIX + key: json.dumps(value) for key, value in record.items()}


def decode(pairs: Mapping[str, str], only: str | None = None) -> dict[str, Any]:
    """The inverse of `encode`; keys of other programs are left out. Empty if segzoo did not write the file.

    Args:
        only: the one key to decode; None decodes all.

    Raises:
        OptionError: the value of one of segzoo's keys is not JSON, or these are not pairs of strings.
    """
    if not isinstance(pairs, Mapping) or not all(isinstance(text, str) for pair in pairs.items() for text in pair):
        raise OptionError("Metadata must be pairs of strings, as .safetensors and .onnx files store them.")
    record = {}
    for key, value in pairs.items():
        if key == f"{PREFIX}{only}" or (only is None and key.startswith(PREFIX)):
            try:
                record[key.removeprefix(PREFIX)] = load_json(value)
            except ValueError as error:
                raise OptionError(f"{key} is not JSON: {error}.") from None
    return record


_SMALLEST, _LARGEST = 1e-6, 1e6
"""Far beyond any image on a scale of 0 to 1, and far within float32."""

_ADDED = ("context", "requires")
"""Fields that files of the same format version may lack, because they were added later."""


def _to_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy with lists for tuples, as a file gives it back."""
    record: dict[str, Any] = json.loads(json.dumps(values))
    return record


def _recent(info: Mapping[str, Any], generations: int) -> dict[str, Any]:
    """A model's `info` with those that it started from, at most so many in all."""
    result = {key: value for key, value in info.items() if key != "started_from"}
    earlier = info.get("started_from")
    if generations > 1 and isinstance(earlier, Mapping) and earlier:
        result["started_from"] = _recent(earlier, generations - 1)
    return result
