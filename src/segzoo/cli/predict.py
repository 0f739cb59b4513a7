"""`segzoo predict`: a label map for each photograph of a folder."""

import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from segzoo.cli import console
from segzoo.cli.plan import Job, plan
from segzoo.errors import SegzooError

if TYPE_CHECKING:
    from PIL import Image

    from segzoo.cli.predictors import Predictor


def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="An .onnx file (needs no torch) or a .safetensors file.")
    ],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Image files, and folders with those in them and below.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the masks go; it is made if need be.")
    ] = Path("masks"),
    overlay: Annotated[
        bool,
        typer.Option("--overlay", help="Also write NAME-overlay.jpg: the photograph under its classes, with a legend."),
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            metavar="auto|cpu|cuda|cuda:N", help="auto takes the first GPU if it can be used, and says why not."
        ),
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace masks and overlays that exist.")] = False,
) -> None:
    """Writes a label map for each photograph: NAME.png, of the photograph's own size.

    The value of a pixel is its class id; the palette shows it in the class's colour. Folders keep their structure.
    An image that cannot be read is reported and the others go on; the exit code is then 1.

      segzoo predict street.onnx photo.jpg
      segzoo predict street.onnx photos/ -o masks/ --overlay
      segzoo predict street.safetensors a.jpg b.jpg --device cuda:1
    """
    jobs = plan(images, output, overlay, force)
    with console.Steps(lines=False) as step:
        step(f"loading {model}")
        from segzoo.cli.predictors import open_model

        predictor = open_model(model, device)
        if predictor.channels not in (1, 3, 4):
            raise SegzooError(
                f"{model} takes images of {predictor.channels} channels, which no image file has. "
                "Pass arrays to segzoo.runtime.Session instead."
            )
    console.note(predictor.why)
    start = time.perf_counter()
    failed: list[Path] = []
    done = 0
    try:
        with console.Bar(len(jobs)) as bar:
            for job in jobs:
                try:
                    _segment(predictor, job)
                    done += 1
                except (SegzooError, OSError) as error:
                    reason = " ".join(str(error).split())
                    bar.note(Text.assemble(("Failed: ", "bold red"), f"{job.image}: {reason}"))
                    failed.append(job.image)
                bar.advance()
    except KeyboardInterrupt:
        console.note(f"Interrupted. {done} of {len(jobs)} are written to {console.shown(output)}, each of them whole.")
        raise typer.Exit(130) from None
    seconds = time.perf_counter() - start
    if done:
        what = "1 mask" if done == 1 else f"{done} masks"
        what += (" and its overlay" if done == 1 else " and their overlays") if overlay else ""
        console.line(f"Wrote {what} to {console.shown(output)} in {seconds:.1f} s, {done / seconds:.1f} images/s.")
    if failed:
        console.error(f"{len(failed)} of {len(jobs)} images failed:")
        for image in failed:
            console.note(f"  {image}")
        raise typer.Exit(1)


def _segment(predictor: "Predictor", job: Job) -> None:
    from segzoo import render
    from segzoo.preprocess import read_image

    pixels = read_image(job.image, predictor.channels)
    labels = predictor.predict(pixels)
    job.mask.parent.mkdir(parents=True, exist_ok=True)
    render.save_mask(job.mask, labels, predictor.labels)
    if job.overlay is not None:
        photograph = pixels if predictor.channels == 3 else read_image(job.image)
        save_picture(render.overlay(photograph, labels, predictor.labels), job.overlay)


def save_picture(picture: "Image.Image", path: Path) -> None:
    """Writes a JPEG whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        picture.save(draft, format="JPEG", quality=92)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
