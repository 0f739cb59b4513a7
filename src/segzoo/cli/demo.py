"""`segzoo demo`: the whole way, from a model's name to a segmented photograph."""

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from segzoo.cli import console, files, types, validators
from segzoo.cli.predict import save_picture
from segzoo.errors import SegzooError
from segzoo.weights.catalog import default

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    from segzoo.exporting.export import Export
    from segzoo.inference import Session
    from segzoo.models.base import SegmentationModel

    Pixels = npt.NDArray[np.uint8]

_SEED, _CLASSES = 7, 6
"""Random weights often give one class everywhere; these, with unet and mobilenet, show several regions."""

_RUNS = 9
_SECONDS = 5.0
"""The latency is the median of at most so many runs, and of fewer once they take longer than this together."""


def demo(
    photograph: Annotated[
        Path | None,
        typer.Argument(metavar="[PHOTOGRAPH]", help="An image file.", show_default="scikit-learn's china.jpg"),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the files go; it is made if need be.")
    ] = Path("demo"),
    decoder: Annotated[
        str | None,
        typer.Option(help="A decoder, with random weights: `segzoo list`.", show_default="that of the trained model"),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="An encoder: `segzoo list --encoders '*'`.", show_default="that of the trained model"),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=2, max=256, help="Number of classes.", show_default="those of the trained model"),
    ] = None,
    device: Annotated[str, typer.Option(metavar=types.DEVICES, help="Where the .onnx file runs.")] = "auto",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the random weights.", show_default=f"{_SEED}, where they are random")
    ] = None,
) -> None:
    """Takes a model, exports it, segments a photograph with the .onnx file, and shows what came out.

    The model is the trained one that ships with segzoo. Where none does, and where --decoder, --encoder, --classes or
    --seed ask for another, the weights are random, and the regions in the picture mean nothing. All else is the real
    thing: the export and its proof, the runtime, the times. Files of an earlier demo are replaced.

      segzoo demo
      segzoo demo street.jpg -o out
      segzoo demo street.jpg --decoder segnet --encoder resnet50 --classes 11
    """
    from segzoo.data.images import read_image

    if photograph is not None:
        pixels, name = read_image(photograph), photograph.stem
    validators.check_folder(output)
    if decoder is not None:
        validators.check_decoder(decoder)
    with console.Steps() as step:
        if photograph is None:
            step("reading scikit-learn's photograph")
            pixels, name = _sample(), "china"
        step("loading torch")
        from segzoo import visualize
        from segzoo.exporting.export import export
        from segzoo.inference import Session

        entry = None if any(one is not None for one in (decoder, encoder, classes, seed)) else default()
        if entry is not None:
            from segzoo.models.load import load

            step(f"loading {entry.key}")
            model, trained = load(entry.key), f"trained on {entry.data}"
        else:
            decoder, encoder, seed = decoder or "unet", encoder or "mobilenet", _SEED if seed is None else seed
            step(f"building {decoder} on {encoder}")
            model, trained = _build(decoder, encoder, classes or _CLASSES, seed), "random weights"
            step.warn(f"The weights are random (seed {seed}): the regions in the picture mean nothing.")
        output.mkdir(parents=True, exist_ok=True)
        target = output / f"{model.config.decoder}-{model.config.encoder}.onnx"
        done = export(model, target, progress=step)
        step("loading the .onnx file")
        session = Session(done.path, device)
        step("segmenting the photograph")
        labels = session.predict(pixels)
        milliseconds, runs = _latency(session, pixels, step)
        mask, picture = output / f"{name}-labels.png", output / f"{name}-overlay.jpg"
        step("drawing")
        visualize.save_mask(mask, labels, session.labels)
        overlay = visualize.overlay(pixels, labels, session.labels)
        save_picture(overlay, picture)
    if console.interactive():
        _show(overlay.crop((0, 0, pixels.shape[1], pixels.shape[0])))  # its legend would be too small to read
    _report(
        model,
        trained,
        done,
        session,
        f"{milliseconds:.1f} ms at {pixels.shape[1]} x {pixels.shape[0]}, median of {runs}",
    )
    console.line()
    console.line("Wrote", "bold")
    for path, what in ((done.path, "the model"), (mask, "class ids, with a palette"), (picture, "overlay and legend")):
        console.line(f"  {path}  ({what})")


def _sample() -> "Pixels":
    """scikit-learn's photograph of a temple, uint8 RGB (427, 640, 3)."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        raise SegzooError(
            "The demo's photograph comes with scikit-learn, which is not installed. `pip install scikit-learn`, or "
            "pass a photograph of yours: segzoo demo street.jpg"
        ) from None
    pixels: Pixels = load_sample_image("china.jpg")
    return pixels


def _build(decoder: str, encoder: str, classes: int, seed: int) -> "SegmentationModel":
    import torch

    from segzoo.models.create import create
    from segzoo.models.decoders import DECODERS

    torch.manual_seed(seed)
    # Untrained transposed convolutions paint their grid over the picture; interpolation shows the photograph's shapes.
    smooth = getattr(DECODERS.get(decoder), "upsamples", ())[:1] == ("upconv",)
    if smooth:
        return create(decoder, encoder, classes, upsample="bilinear")
    return create(decoder, encoder, classes)


def _latency(session: "Session", pixels: "Pixels", step: console.Steps) -> tuple[float, int]:
    """Milliseconds of one run, from uint8 pixels to class ids, and how many runs that is the median of."""
    batch = pixels[None]
    times: list[float] = []
    step("measuring onnxruntime")
    while len(times) < _RUNS and sum(times) < _SECONDS:
        start = time.perf_counter()
        session.run(batch)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times), len(times)


def _report(model: "SegmentationModel", trained: str, done: "Export", session: "Session", latency: str) -> None:
    from segzoo.models.create import count

    proof = done.proof
    config = model.config
    options = "".join(f", {name}={value}" for name, value in config.options.items())
    judged = " (it unpools: near-ties may flip a switch)" if proof.unpooling else ""
    console.facts(
        [
            ("model", f"{config.decoder} on {config.encoder}{options}, {config.num_classes} classes, {trained}"),
            ("parameters", f"{count(model):,}"),
            ("export time", f"{done.seconds:.1f} s, with {len(proof.cases)} comparisons against torch"),
            ("logits differ by", f"{files.difference(proof.logits_difference)} of the largest{judged}"),
            ("same label", f"{files.agreement(proof.label_agreement)} of pixels"),
            ("latency", latency),
            ("provider", f"{session.provider}. {session.why}"),
        ]
    )


def _show(picture: "Image.Image") -> None:
    """Draws a picture on the terminal, two pixels a character."""
    import numpy as np

    width = min(72, console.out().width)
    rows = max(1, round(width * picture.height / picture.width / 2))
    pixels = np.asarray(picture.convert("RGB").resize((width, 2 * rows)))
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        text = Text()
        for above, below in zip(upper, lower, strict=True):
            text.append("\N{UPPER HALF BLOCK}", f"{console.code(above)} on {console.code(below)}")
        console.line(text)
