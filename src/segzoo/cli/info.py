"""`segzoo info`: details of a decoder, an encoder, a catalog entry or a model file."""

import inspect
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo import formatting
from segzoo._registry import ENCODERS, SHORT_NAMES
from segzoo.cli import console, files
from segzoo.cli.describe import describe
from segzoo.errors import PairingError, unknown
from segzoo.weights.catalog import Entry, Exported, find
from segzoo.weights.resolve import looks_like_key, resolve

if TYPE_CHECKING:
    from segzoo.models.decoders import Decoder
    from segzoo.models.papers import Paper


def info(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A decoder, an encoder, a model file, a catalog key, hf://owner/repo or https://..."
        ),
    ],
) -> None:
    """Show details of a decoder, an encoder, trained weights or a model file.

    Nothing is downloaded, except a file named by hf:// or https://.

    Examples:

      segzoo info segnet                    what it does, its options, differences from the paper
      segzoo info resnet101                 levels, channels, strides, mean and std
      segzoo info fcn/resnet101/coco-voc    metrics, data, license and sha256
      segzoo info street.onnx               classes, normalization, and how the export was verified
    """
    if files.is_path(name) or resolve(name) in ("hub", "url"):
        describe(files.find(name).path)
        return
    if looks_like_key(name):
        _weights(find(name))
        return
    with console.Steps(lines=False) as step:
        step("loading timm")
        from segzoo.models.decoders import DECODERS
        from segzoo.models.encoders import list_encoders
        from segzoo.models.papers import PAPERS

        encoders = list_encoders()
    if name in PAPERS:
        _paper(name, PAPERS[name])
        return
    if name in DECODERS:
        _decoder(name, DECODERS[name])
    if name in encoders or name not in DECODERS:
        if name in DECODERS:
            console.line()
        if not _is_encoder(name):
            hint = (
                "`segzoo list` shows the decoders, `segzoo list --encoders '*res*'` the encoders; model files end in "
                ".safetensors or .onnx."
            )
            raise unknown("decoder or encoder", name, [*DECODERS, *PAPERS, *encoders], hint)
        _encoder(name)


def _weights(entry: Entry) -> None:
    build = ", ".join(f"{name}={value!r}" for name, value in entry.build.items())
    console.title(f"Weights {entry.key}")
    rows = [
        ("decoder", entry.decoder + (f" ({build})" if build else "")),
        ("encoder", entry.encoder),
        ("parameters", f"{entry.params:,}"),
        ("classes", entry.classes),
        ("mean", _numbers(entry.mean)),
        ("std", f"{_numbers(entry.std)} (per channel, on a scale of 0 to 1)"),
        ("trained at", "{} x {} (height x width; accepts any size)".format(*entry.input_size)),
        ("trained on", entry.data),
        ("measured on", f"{entry.split}, by {entry.metrics_by}"),
        *formatting.rows(entry.metrics),
        *((f"without {name}", _holdout(metrics)) for name, metrics in entry.holdout_metrics.items()),
        *_runtime(entry),
        ("license", entry.license),
        ("paper", entry.paper),
        ("recipe", entry.recipe),
        ("published", entry.date.isoformat()),
        ("file", f"{entry.file}, {console.megabytes(entry.size)} ({entry.size:,} bytes), format {entry.format}"),
        *(("url", url) for url in entry.urls),
        ("sha256", f"{entry.sha256}\n(computed by {entry.sha256_source})"),
        ("local file", str(entry.local_path) if entry.local_path is not None else _NOT_LOCAL[entry.source]),
        *([] if entry.exported is None else _exported(entry.exported)),
    ]
    console.key_values(rows)


_NOT_LOCAL = {
    "web": "not downloaded yet; segzoo.load fetches it",
    "package": "not installed; it ships with segmentation-zoo",
    "repository": "not installed; it is in the folder weights/ of segzoo's repository",
}


def _exported(file: Exported) -> list[tuple[str, str]]:
    return [
        (".onnx file", f"{file.file}, {console.megabytes(file.size)} ({file.size:,} bytes)"),
        (".onnx sha256", file.sha256),
        (".onnx local file", str(file.path) if file.path.is_file() else "missing; reinstall segmentation-zoo-runtime"),
    ]


def _holdout(metrics: Mapping[str, float]) -> str:
    values = ", ".join(f"{name} {value}" for name, value in formatting.rows(metrics))
    return f"{values}: same recipe, trained without this part and evaluated on it"


def _runtime(entry: Entry) -> list[tuple[str, str]]:
    run, changes = entry.runtime, entry.storage_changes
    agreement = console.pixel_agreement
    rows = [] if changes is None else [("as float16", f"same class on {agreement(1 - changes)} of pixels")]
    if run:
        setup = f"{run.width} x {run.height}, {run.threads} threads of {run.cpu}"
        difference = console.logits_difference(run.logits_difference)
        rows += [
            ("onnxruntime", f"{run.milliseconds:.1f} ms at {setup} (version {run.onnxruntime})"),
            ("logits differ by", f"{difference} of the largest, after export"),
            ("same class", f"{agreement(run.pixel_agreement)} of pixels, after export"),
        ]
    return rows


def _is_encoder(name: str) -> bool:
    """Also true of tagged names and of timm models that `list_encoders` omits: building those explains why."""
    import timm

    return name in ENCODERS or name in SHORT_NAMES or bool(timm.is_model(name.partition(".")[0]))


def _decoder(name: str, cls: "type[Decoder]") -> None:
    import torch

    from segzoo.models.base import EncoderDecoder
    from segzoo.models.create import create
    from segzoo.models.parameters import count_parameters

    with torch.device("meta"):
        model = create(name)
    assert isinstance(model, EncoderDecoder)  # always, for a decoder's name
    console.title(f"Decoder {name}")
    _about(cls)
    about = (cls.__doc__ or "").partition("Args:")[0]
    rows = [
        ("summary", " ".join(about.split()).replace("`", "")),
        ("paper", cls.paper),
        ("default encoder", cls.default_encoder),
        ("levels needed", ", ".join(map(str, cls.levels)) or "any"),
        ("output strides", f"{', '.join(map(str, cls.output_strides))} (the first is the default)"),
        (
            "parameters",
            f"{count_parameters(model):,} on {cls.default_encoder}, 21 classes; decoder alone "
            f"{count_parameters(model.decoder):,}",
        ),
    ]
    console.key_values(rows)
    _options(cls)


def _paper(name: str, cls: "type[Paper]") -> None:
    import torch

    from segzoo.models.create import create
    from segzoo.models.parameters import count_parameters

    with torch.device("meta"):
        model = create(name)
    console.title(f"Paper network {name}")
    channels = f"{cls.default_in_channels} {'channel' if cls.default_in_channels == 1 else 'channels'}"
    _about(cls)
    about = (cls.__doc__ or "").partition("Args:")[0]
    rows = [
        ("summary", " ".join(about.split()).replace("`", "")),
        ("paper", cls.paper),
        ("parameters", f"{count_parameters(model):,} with {cls.default_num_classes} classes, {channels} in"),
        ("input", f"{model.channel_order if cls.default_in_channels == 3 else 'gray'}, (x - mean) / scale of 0-255"),
        ("mean", _numbers(cls.pixel_mean[: cls.default_in_channels])),
        ("scale", f"{cls.pixel_scale:g}"),
    ]
    console.key_values(rows)
    _options(cls)


def _about(cls: type[Any]) -> None:
    """Prints the docstring of the module that defines a decoder or a paper's network."""
    for paragraph in (inspect.getdoc(sys.modules[cls.__module__]) or "").split("\n\n"):
        for item in re.split(r"\n(?=- )", paragraph):
            console.prose(item.replace("`", ""))
        console.line()


def _options(cls: type[Any]) -> None:
    options = [p for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if options:
        meanings = _arguments(cls)
        console.line()
        console.title("Options")
        console.table(
            ("name", "default", "meaning"), [(o.name, repr(o.default), meanings.get(o.name, "")) for o in options]
        )


def _arguments(cls: type[Any]) -> dict[str, str]:
    """The entries under "Args:" in the docstrings of a class and its bases."""
    meanings: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
        for entry in re.split(r"\n(?=    \w)", "\n" + text):
            name, colon, meaning = entry.partition(":")
            if colon:
                meanings[name.strip()] = " ".join(meaning.split()).replace("`", "")
    return meanings


def _encoder(name: str) -> None:
    import torch

    from segzoo.models.encoders import create_encoder
    from segzoo.models.parameters import count_parameters

    with console.Steps(lines=False) as step, torch.device("meta"):
        step(f"building {name}")
        encoder = create_encoder(name)
        strides = [encoder.features.strides[-1]]
        for stride in (16, 8):
            step(f"trying output stride {stride}")
            try:
                strides.append(create_encoder(name, output_stride=stride).features.strides[-1])
            except PairingError:
                continue
    features = encoder.features
    config = getattr(getattr(encoder, "net", None), "pretrained_cfg", {})
    weights = ".".join(filter(None, (config.get("architecture"), config.get("tag"))))
    console.title(f"Encoder {name}")
    rows = [
        ("parameters", f"{count_parameters(encoder):,}"),
        ("sizes", f"any; padded internally to multiples of {encoder.size_divisibility}"),
        ("output strides", f"{', '.join(map(str, dict.fromkeys(strides)))} (the first without dilation)"),
        ("mean", _numbers(encoder.mean)),
        ("std", f"{_numbers(encoder.std)} (per channel, on a scale of 0 to 1)"),
        (
            "pretrained",
            f"--encoder-weights imagenet loads timm's {weights}"
            if config.get("hf_hub_id") or config.get("url")
            else "none",
        ),
    ]
    console.key_values(rows)
    console.line()
    maps = zip(features.levels, features.channels, features.strides, strict=True)
    console.table(("level", "channels", "stride"), [tuple(map(str, row)) for row in maps], right=(0, 1, 2))


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
