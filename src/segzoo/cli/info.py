"""`segzoo info`: all there is to know about a decoder, an encoder, or a model in a file."""

import inspect
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segzoo import formatting
from segzoo.cli import console, files
from segzoo.errors import PairingError, unknown
from segzoo.weights.catalog import Entry, find

if TYPE_CHECKING:
    from segzoo.models.decoders import Decoder
    from segzoo.models.papers import Paper


def info(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A decoder, an encoder, or a model: a file, a key, a place."),
    ],
) -> None:
    """Shows all there is to know about a decoder, an encoder, trained weights, or a model in a file.

    Parameters are counted without allocating them; nothing is downloaded but a file that is named by hf:// or https://.

      segzoo info segnet              what it does, its options, what differs from the paper
      segzoo info resnet101           levels, channels, strides, mean and std
      segzoo info fcn/resnet101/coco-voc    metrics, data, licence and sha256
      segzoo info street.onnx         classes, normalisation, and the proof that it equals the model
    """
    if files.meant(name) or "://" in name:
        files.describe(files.find(name).path)
        return
    if "/" in name and not name.startswith("paper/"):
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
            see = (
                "`segzoo list` shows the decoders, `segzoo list --encoders '*res*'` encoders; a file ends in "
                ".safetensors or .onnx."
            )
            raise unknown("decoder or encoder", name, [*DECODERS, *PAPERS, *encoders], see)
        _encoder(name)


def _weights(entry: Entry) -> None:
    build = ", ".join(f"{name}={value!r}" for name, value in entry.build.items())
    console.title(f"Weights {entry.key}")
    rows = [
        ("decoder", entry.decoder + (f" ({build})" if build else "")),
        ("encoder", entry.encoder),
        ("parameters", f"{entry.params:,}"),
        ("labels", entry.labels),
        ("mean", _numbers(entry.mean)),
        ("std", f"{_numbers(entry.std)} (of each channel, on a scale of 0 to 1)"),
        ("trained at", "{} x {} (any size goes in)".format(*entry.input_size)),
        ("trained on", entry.data),
        ("measured on", f"{entry.split}, by {entry.metrics_by}"),
        *formatting.rows(entry.metrics),
        *((f"without {part}", _unseen(found)) for part, found in entry.unseen.items()),
        *_runtime(entry),
        ("licence", entry.licence),
        ("paper", entry.paper),
        ("recipe", entry.recipe),
        ("published", entry.date.isoformat()),
        ("file", f"{entry.file}, {console.megabytes(entry.size)} ({entry.size:,} bytes), read as {entry.format}"),
        *(("from", url) for url in entry.urls),
        ("sha256", f"{entry.sha256}\n(computed by {entry.sha256_by})"),
        ("here", str(entry.here) if entry.here is not None else _ELSEWHERE[entry.place]),
    ]
    console.facts(rows)


_ELSEWHERE = {
    "web": "not yet: segzoo.load fetches it",
    "package": "no: install segzoo again",
    "repository": "no: it is in the folder weights/ of segzoo's repository",
}


def _unseen(metrics: Mapping[str, float]) -> str:
    said = ", ".join(f"{name} {value}" for name, value in formatting.rows(metrics))
    return f"{said}: trained without it by the same recipe, and measured on it"


def _runtime(entry: Entry) -> list[tuple[str, str]]:
    run, changes = entry.runtime, entry.storage_changes
    rows = [] if changes is None else [("as float16", f"the same label on {files.agreement(1 - changes)} of pixels")]
    if run:
        where = f"{run['width']} x {run['height']}, {run['threads']} threads of {run['cpu']}"
        rows += [
            ("onnxruntime", f"{run['milliseconds']:.1f} ms at {where} (version {run['onnxruntime']})"),
            ("logits differ by", f"{files.difference(run['logits_difference'])} of the largest, exported"),
            ("same label", f"{files.agreement(run['label_agreement'])} of pixels, exported"),
        ]
    return rows


def _is_encoder(name: str) -> bool:
    """Names with a tag too, and those that `list_encoders` leaves out: why one cannot be one is worth telling."""
    import timm

    from segzoo.models.encoders import SHORT_NAMES

    return name == "unet" or name in SHORT_NAMES or bool(timm.is_model(name.partition(".")[0]))


def _decoder(name: str, kind: "type[Decoder]") -> None:
    import torch

    from segzoo.models.base import EncoderDecoder
    from segzoo.models.create import count, create

    with torch.device("meta"):
        model = create(name)
    assert isinstance(model, EncoderDecoder)  # a decoder's name gives one
    console.title(f"Decoder {name}")
    _about(kind)
    about = (kind.__doc__ or "").partition("Args:")[0]
    rows = [
        ("in short", " ".join(about.split()).replace("`", "")),
        ("paper", kind.paper),
        ("own encoder", kind.encoder),
        ("levels needed", ", ".join(map(str, kind.levels)) or "any"),
        ("output strides", f"{', '.join(map(str, kind.output_strides))} (the first is the default)"),
        ("parameters", f"{count(model):,} on {kind.encoder}, 21 classes; the decoder's own {count(model.decoder):,}"),
    ]
    console.facts(rows)
    _options(kind)


def _paper(name: str, kind: "type[Paper]") -> None:
    import torch

    from segzoo.models.create import count, create

    with torch.device("meta"):
        model = create(name)
    console.title(f"Paper network {name}")
    channels = f"{kind.channels} {'channel' if kind.channels == 1 else 'channels'}"
    _about(kind)
    about = (kind.__doc__ or "").partition("Args:")[0]
    rows = [
        ("in short", " ".join(about.split()).replace("`", "")),
        ("paper", kind.paper),
        ("parameters", f"{count(model):,} with {kind.classes} classes, {channels} in"),
        ("input", f"{model.channel_order if kind.channels == 3 else 'gray'}, (x - mean) / scale of 0-255"),
        ("mean", _numbers(kind.pixel_mean[: kind.channels])),
        ("scale", f"{kind.pixel_scale:g}"),
    ]
    console.facts(rows)
    _options(kind)


def _about(kind: type[Any]) -> None:
    """What the file of a decoder or a paper says at its head."""
    for paragraph in (inspect.getdoc(sys.modules[kind.__module__]) or "").split("\n\n"):
        for item in re.split(r"\n(?=- )", paragraph):
            console.prose(item.replace("`", ""))
        console.line()


def _options(kind: type[Any]) -> None:
    options = [p for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if options:
        told = _arguments(kind)
        console.line()
        console.title("Options")
        console.table(
            ("name", "default", "meaning"), [(o.name, repr(o.default), told.get(o.name, "")) for o in options]
        )


def _arguments(kind: type[Any]) -> dict[str, str]:
    """What the docstrings of a class and its bases say under "Args:"."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
        for entry in re.split(r"\n(?=    \w)", "\n" + text):
            name, colon, meaning = entry.partition(":")
            if colon:
                found[name.strip()] = " ".join(meaning.split()).replace("`", "")
    return found


def _encoder(name: str) -> None:
    import torch

    from segzoo.models.create import count
    from segzoo.models.encoders import create_encoder

    with console.Steps(lines=False) as step, torch.device("meta"):
        step(f"building {name}")
        encoder = create_encoder(name)
        strides = [encoder.features.strides[-1]]
        for wanted in (16, 8):
            step(f"trying output stride {wanted}")
            try:
                strides.append(create_encoder(name, output_stride=wanted).features.strides[-1])
            except PairingError:
                continue
    features = encoder.features
    full = getattr(getattr(encoder, "net", None), "pretrained_cfg", {})
    weights = ".".join(filter(None, (full.get("architecture"), full.get("tag"))))
    console.title(f"Encoder {name}")
    rows = [
        ("parameters", f"{count(encoder):,}"),
        ("sizes", f"any; padded inside to multiples of {encoder.multiple}"),
        ("output strides", f"{', '.join(map(str, dict.fromkeys(strides)))} (the first is the plain network)"),
        ("mean", _numbers(encoder.mean)),
        ("std", f"{_numbers(encoder.std)} (of each channel, on a scale of 0 to 1)"),
        (
            "pretrained",
            f"--encoder-weights imagenet takes timm's {weights}"
            if full.get("hf_hub_id") or full.get("url")
            else "none",
        ),
    ]
    console.facts(rows)
    console.line()
    maps = zip(features.levels, features.channels, features.strides, strict=True)
    console.table(("level", "channels", "stride"), [tuple(map(str, row)) for row in maps], right=(0, 1, 2))


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
