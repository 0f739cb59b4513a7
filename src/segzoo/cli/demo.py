"""`segzoo demo`: loads a model, exports it, and segments a photograph with the exported file."""

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from segzoo.cli import console, files, types, validators
from segzoo.cli.export import verification_rows
from segzoo.cli.predict import save_picture
from segzoo.errors import SegzooError
from segzoo.weights.catalog import default

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    from segzoo.exporting.export import Export
    from segzoo.inference import OnnxBackend
    from segzoo.models.base import SegmentationModel

    Pixels = npt.NDArray[np.uint8]

_SEED, _NUM_CLASSES = 7, 6
"""Random weights often predict one class everywhere; these give several regions with unet on mobilenet."""

_MAX_RUNS, _MAX_SECONDS = 9, 5.0
"""The latency is the median of this many runs, or of fewer if they take longer than this in total."""


def demo(
    photograph: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGE", help="An image file.", show_default="scikit-learn's china.jpg"),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="The folder for the output files; created if it does not exist."
        ),
    ] = Path("demo"),
    decoder: Annotated[
        str | None,
        typer.Option(help="A decoder (`segzoo list`), with random weights.", show_default="the trained model's"),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="An encoder (`segzoo list --encoders '*'`), with random weights.", show_default="the trained model's"
        ),
    ] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(
            min=2, max=256, help="Number of classes, with random weights.", show_default="the trained model's"
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar=types.DEVICES, help="The device to run the .onnx file on.")] = "auto",
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Random seed of the weights.", show_default=f"{_SEED}, if weights are random"),
    ] = None,
) -> None:
    """Export a model and segment a photograph with it.

    The model is the trained one that ships with segzoo. If none ships, or if you pass --decoder, --encoder,
    --num-classes or --seed, the weights are random and the mask is meaningless; the export, its verification and the
    latency are real all the same. Files of an earlier demo are replaced.

    Examples:

      segzoo demo
      segzoo demo street.jpg -o out
      segzoo demo street.jpg --decoder segnet --encoder resnet50 --num-classes 11
    """
    from segzoo.data.images import read_image
    from segzoo.data.pages import count_pages

    if photograph is not None:
        files.refuse_model(photograph)
        pixels, name = read_image(photograph, page=1), photograph.stem
        if (count := count_pages(photograph)) > 1:
            console.note(f"{photograph} has {count:,} pages. The demo reads the first.")
    validators.check_folder(output)
    if decoder is not None:
        validators.check_decoder(decoder)
    with console.Steps() as step:
        if photograph is None:
            step("reading scikit-learn's photograph")
            pixels, name = _sample(), "china"
        step("loading torch")
        from segzoo.exporting.export import export
        from segzoo.inference import OnnxBackend, Predictor

        entry = None if any(option is not None for option in (decoder, encoder, num_classes, seed)) else default()
        if entry is not None:
            from segzoo.models.load import load

            step(f"loading {entry.key}")
            model, trained = load(entry.key), f"trained on {entry.data}"
        else:
            decoder, encoder, seed = decoder or "unet", encoder or "mobilenet", _SEED if seed is None else seed
            step(f"building {decoder} on {encoder}")
            model, trained = _build(decoder, encoder, num_classes or _NUM_CLASSES, seed), "random weights"
            step.warn(f"The weights are random (seed {seed}), so the mask is meaningless.")
        output.mkdir(parents=True, exist_ok=True)
        target = output / f"{model.spec.decoder}-{model.spec.encoder}.onnx"
        exported = export(model, target, progress=step)
        step("loading the .onnx file")
        backend = OnnxBackend(exported.path, device)
        step("segmenting the photograph")
        result = Predictor(backend).predict(pixels)
        milliseconds, runs = _latency(backend, pixels, step)
        mask_file, picture = output / f"{name}-mask.png", output / f"{name}-overlay.jpg"
        step("drawing")
        result.save(mask_file)
        overlay = result.overlay()
        save_picture(overlay, picture)
    if console.interactive():
        _show(overlay.crop((0, 0, pixels.shape[1], pixels.shape[0])))  # without the legend, too small to read here
    _report(
        model,
        trained,
        exported,
        backend,
        f"{milliseconds:.1f} ms at {pixels.shape[1]} x {pixels.shape[0]}, median of {runs}",
    )
    console.line()
    console.line("Wrote", "bold")
    for path, content in (
        (exported.path, "the model"),
        (mask_file, "class ids, with a palette"),
        (picture, "overlay with a legend"),
    ):
        console.line(f"  {path}  ({content})")


def _sample() -> "Pixels":
    """scikit-learn's photograph of a temple, uint8 RGB (427, 640, 3)."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        raise SegzooError(
            "The demo's photograph comes with scikit-learn, which is not installed. `pip install scikit-learn`, or "
            "pass your own image: segzoo demo street.jpg"
        ) from None
    pixels: Pixels = load_sample_image("china.jpg")
    return pixels


def _build(decoder: str, encoder: str, num_classes: int, seed: int) -> "SegmentationModel":
    import torch

    from segzoo.models.create import create
    from segzoo.models.decoders import DECODERS

    torch.manual_seed(seed)
    # Untrained transposed convolutions produce a grid pattern; interpolation keeps the shapes of the photograph.
    is_learned = getattr(DECODERS.get(decoder), "upsample_modes", ())[:1] == ("upconv",)
    options: dict[str, Any] = {"upsample": "bilinear"} if is_learned else {}
    return create(decoder, encoder, num_classes, **options)


def _latency(backend: "OnnxBackend", pixels: "Pixels", step: console.Steps) -> tuple[float, int]:
    """The median milliseconds of one run, from uint8 pixels to class ids, and the number of runs."""
    batch = pixels[None]
    times: list[float] = []
    step("measuring onnxruntime")
    while len(times) < _MAX_RUNS and sum(times) < _MAX_SECONDS:
        start = time.perf_counter()
        backend.run(batch, ["mask"])
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times), len(times)


def _report(model: "SegmentationModel", trained: str, exported: "Export", backend: "OnnxBackend", latency: str) -> None:
    from segzoo.models.parameters import count_parameters

    spec = model.spec
    options = "".join(f", {name}={value}" for name, value in spec.options.items())
    console.key_values(
        [
            ("model", f"{spec.decoder} on {spec.encoder}{options}, {spec.num_classes} classes, {trained}"),
            ("parameters", f"{count_parameters(model):,}"),
            ("export time", f"{exported.seconds:.1f} s, including verification"),
            *verification_rows(exported.verification),
            ("latency", latency),
            ("provider", f"{backend.provider}. {backend.device_reason}"),
        ]
    )


def _show(picture: "Image.Image") -> None:
    """Draws a picture in the terminal, two pixels per character."""
    import numpy as np

    width = min(72, console.out().width)
    rows = max(1, round(width * picture.height / picture.width / 2))
    pixels = np.asarray(picture.convert("RGB").resize((width, 2 * rows)))
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        text = Text()
        for above, below in zip(upper, lower, strict=True):
            text.append("\N{UPPER HALF BLOCK}", f"{console.hex_color(above)} on {console.hex_color(below)}")
        console.line(text)
