"""`segzoo info`: details of a decoder, an encoder, a catalog entry or a model file."""

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from segzoo import formatting
from segzoo._optional import needs
from segzoo._registry import DECODERS, ENCODERS, PAPERS
from segzoo.cli import console, files
from segzoo.cli.describe import describe
from segzoo.errors import MissingPackageError, similar, unknown
from segzoo.weights.catalog import Entry, Exported, entries, find
from segzoo.weights.resolve import looks_like_key, resolve

if TYPE_CHECKING:
    from segzoo._descriptions import EncoderDescription, Option


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
    if name in PAPERS:
        _paper(name)
        return
    if name in DECODERS:
        _decoder(name)
        if not _is_encoder_too(name):
            return
        console.line()
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
        ("sha256", entry.sha256),
        ("computed by", entry.sha256_source),
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


def _decoder(name: str) -> None:
    from segzoo import _descriptions

    decoder = _descriptions.decoder(name)
    if decoder.parameters is None:
        decoder = _models().with_parameters(name, decoder)
    default_encoder = DECODERS[name].default_encoder
    console.title(f"Decoder {name}")
    _about(decoder.about)
    rows = [
        ("summary", _plain(decoder.summary)),
        ("paper", decoder.paper),
        ("default encoder", str(default_encoder)),
        ("levels needed", ", ".join(map(str, decoder.levels)) or "any"),
        ("output strides", f"{', '.join(map(str, decoder.output_strides))} (the first is the default)"),
        (
            "parameters",
            f"{decoder.parameters:,} on {default_encoder}, 21 classes; decoder alone {decoder.decoder_parameters:,}",
        ),
    ]
    console.key_values(rows)
    _options(decoder.options)


def _paper(name: str) -> None:
    from segzoo import _descriptions

    paper = _descriptions.paper(name)
    console.title(f"Paper network {name}")
    channels = f"{paper.in_channels} {'channel' if paper.in_channels == 1 else 'channels'}"
    _about(paper.about)
    rows = [
        ("summary", _plain(paper.summary)),
        ("paper", paper.paper),
        ("parameters", f"{paper.parameters:,} with {paper.num_classes} classes, {channels} in"),
        ("input", f"{paper.channel_order}, (x - mean) / scale of 0-255"),
        ("mean", _numbers(paper.mean)),
        ("scale", f"{paper.scale:g}"),
    ]
    console.key_values(rows)
    _options(paper.options)


def _about(paragraphs: tuple[str, ...]) -> None:
    for paragraph in paragraphs:
        for item in paragraph.split("\n"):
            console.prose(_plain(item))
        console.line()


def _options(options: "tuple[Option, ...]") -> None:
    if options:
        console.line()
        console.title("Options")
        rows = [(option.name, str(option.default), _plain(option.meaning)) for option in options]
        console.table(("name", "default", "meaning"), rows)


def _encoder(name: str) -> None:
    encoder = _describe_encoder(name)
    console.title(f"Encoder {name}")
    rows = [
        ("parameters", f"{encoder.parameters:,}"),
        ("sizes", f"any; padded internally to multiples of {encoder.size_divisibility}"),
        ("output strides", f"{', '.join(map(str, encoder.output_strides))} (the first without dilation)"),
        ("mean", _numbers(encoder.mean)),
        ("std", f"{_numbers(encoder.std)} (per channel, on a scale of 0 to 1)"),
        (
            "pretrained",
            f"--encoder-weights imagenet loads timm's {encoder.pretrained}" if encoder.pretrained else "none",
        ),
    ]
    console.key_values(rows)
    console.line()
    maps = zip(encoder.levels, encoder.channels, encoder.strides, strict=True)
    console.table(("level", "channels", "stride"), [tuple(map(str, row)) for row in maps], right=(0, 1, 2))


def _is_encoder_too(decoder: str) -> bool:
    """Whether a decoder's name is also that of an encoder: "unet", or a name of timm's that a plugin gave a decoder."""
    return decoder in ENCODERS or (DECODERS[decoder].plugin is not None and _models().is_encoder(decoder))


def _describe_encoder(name: str) -> "EncoderDescription":
    """The description of an encoder, from segzoo, timm or a plugin.

    Raises:
        UnknownNameError: there is no such encoder. It is the last thing that a name can be, so names of everything are
            suggested.
        PairingError: the network cannot be an encoder.
    """
    from segzoo import _descriptions

    if name in ENCODERS and (own := _descriptions.encoder(name)) is not None:
        return own
    known = [*DECODERS, *PAPERS, *entries()]
    with console.Steps(lines=False) as step:
        step("loading timm")
        try:
            models = _models()
        except MissingPackageError:
            if similar(name, known):
                hint = "`segzoo list` shows the decoders, `segzoo list --weights` the keys; encoders need PyTorch."
                raise unknown("decoder", name, known, hint) from None
            raise
        if not models.is_encoder(name):
            hint = (
                "`segzoo list` shows the decoders, `segzoo list --encoders '*res*'` the encoders, `segzoo list "
                "--weights` the keys; model files end in .safetensors or .onnx."
            )
            raise unknown("decoder or encoder", name, [*known, *models.list_encoders()], hint)
        described: EncoderDescription = models.describe_encoder(name, step)
        return described


def _models() -> ModuleType:
    """What builds models to describe them, and imports torch and timm to do so.

    Raises:
        MissingPackageError: only the runtime is installed.
    """
    with needs("Looking up an encoder"):
        from segzoo.models import describe

    return describe


def _plain(text: str) -> str:
    """Text of a docstring, without backticks."""
    return text.replace("`", "")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
