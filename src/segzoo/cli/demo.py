"""`segzoo demo`: segments a photograph with the model that ships with segzoo, or with one exported on the spot."""

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from segzoo._optional import needs
from segzoo.cli import console, files, types, validators
from segzoo.cli.predict import save_picture
from segzoo.data.sample import PHOTOGRAPH
from segzoo.weights.catalog import default

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

    from segzoo.inference import OnnxBackend

    Pixels = npt.NDArray[np.uint8]

_MAX_RUNS, _MAX_SECONDS = 9, 5.0
"""The latency is the median of this many runs, or of fewer if they take longer than this in total."""


def demo(
    photograph: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGE", help="An image file.", show_default="a photograph that ships with segzoo"),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="The folder for the output files; created if it does not exist."
        ),
    ] = Path("demo"),
    export: Annotated[
        bool, typer.Option("--export", help="Export the model first, and verify the file against torch.")
    ] = False,
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
        int | None, typer.Option(min=0, help="Random seed of the weights.", show_default="7, if weights are random")
    ] = None,
) -> None:
    """Segment a photograph.

    The model is the trained one that ships with segzoo, as an .onnx file. With --export, the file is exported and
    verified first. With --decoder, --encoder, --num-classes or --seed, the exported model has random weights and the
    mask is meaningless; the export, its verification and the latency are real all the same. Files of an earlier demo
    are replaced.

    Examples:

      segzoo demo
      segzoo demo street.jpg -o out
      segzoo demo street.jpg --export
      segzoo demo street.jpg --decoder segnet --encoder resnet50 --num-classes 11
    """
    from segzoo.data.images import read_image
    from segzoo.data.pages import count_pages

    photograph = photograph or PHOTOGRAPH
    files.refuse_model(photograph)
    pixels = read_image(photograph, page=1)
    if (count := count_pages(photograph)) > 1:
        console.note(f"{photograph} has {count:,} pages. The demo reads the first.")
    validators.check_folder(output)
    if decoder is not None:
        validators.check_decoder(decoder)
    is_random = any(option is not None for option in (decoder, encoder, num_classes, seed))
    entry = None if is_random else default()
    written: list[tuple[Path, str]] = []
    with console.Steps() as step:
        if export or entry is None or entry.exported is None:
            with needs("Exporting a model"):
                from segzoo.cli.demo_export import build, export_model
            model, origin = build(entry, decoder, encoder, num_classes, seed, step)
            output.mkdir(parents=True, exist_ok=True)
            path, rows = export_model(model, origin, output, step)
            written.append((path, "the model"))
        else:
            path = files.find(entry.key, exported=True).path
            output.mkdir(parents=True, exist_ok=True)
            rows = [("model", f"{entry.key}, {entry.params:,} parameters, trained on {entry.data}")]
        step("loading the .onnx file")
        from segzoo.inference import OnnxBackend, Predictor

        backend = OnnxBackend(path, device)
        step("segmenting the photograph")
        result = Predictor(backend).predict(pixels)
        milliseconds, runs = _latency(backend, pixels, step)
        mask_file, picture = (output / f"{photograph.stem}-{name}" for name in ("mask.png", "overlay.jpg"))
        step("drawing")
        result.save(mask_file)
        overlay = result.overlay()
        save_picture(overlay, picture)
    written += [(mask_file, "class ids, with a palette"), (picture, "overlay with a legend")]
    if console.interactive():
        _show(overlay.crop((0, 0, pixels.shape[1], pixels.shape[0])))  # without the legend, too small to read here
    rows += [
        ("found", ", ".join(f"{name} {share:.0%}" for name, share in _largest(result.areas()))),
        ("latency", f"{milliseconds:.1f} ms at {pixels.shape[1]} x {pixels.shape[0]}, median of {runs}"),
        ("provider", f"{backend.provider}. {backend.device_reason}"),
    ]
    console.key_values(rows)
    console.line()
    console.line("Wrote", "bold")
    for file, content in written:
        console.line(f"  {file}  ({content})")


def _largest(areas: dict[str, float]) -> list[tuple[str, float]]:
    """The four classes with the largest areas, of at least one percent each."""
    return [(name, share) for name, share in sorted(areas.items(), key=lambda item: -item[1])[:4] if share >= 0.01]


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
