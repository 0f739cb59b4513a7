"""`segzoo predict`: a label map for each photograph of a folder."""

import shlex
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from segzoo._io import written_aside
from segzoo._registry import DECODERS, PAPERS
from segzoo.cli import console, files, types, video
from segzoo.cli.output_plan import Job, plan
from segzoo.errors import SegzooError, unknown
from segzoo.weights.catalog import default, entries

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from PIL import Image

    from segzoo.cli.predictors import Predictor
    from segzoo.inference import Result
    from segzoo.inference.stream import Labels


def predict(
    context: typer.Context,
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] IMAGES...",
            help=f"The model: {types.MODEL_OR_ONNX} (.onnx needs no torch); without one, the model that ships with "
            "segzoo. Then images, folders with images in them and below, and videos.",
        ),
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
            metavar=types.DEVICES,
            help="auto takes the first GPU if it can be used, and says why not; tensorrt is for .onnx files.",
        ),
    ] = "auto",
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Images of one size to run together (.onnx).",
            show_default="8 on a GPU, 1 on the CPU",
        ),
    ] = None,
    tile: Annotated[
        str | None,
        typer.Option(metavar="H,W", help="Run larger images in tiles of this size (.onnx exported with --logits)."),
    ] = None,
    overlap: Annotated[
        str | None,
        typer.Option(metavar="H,W", help="What neighbouring tiles share.", show_default="a quarter of the tile"),
    ] = None,
    tta: Annotated[
        str | None,
        typer.Option(
            metavar="flip|SCALES",
            help="Mean over views: flip, 0.75,1,1.25 or flip,0.75,1,1.25 (.onnx exported with --logits).",
        ),
    ] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave images whose mask exists: goes on where a run was stopped.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace masks and overlays that exist.")] = False,
) -> None:
    """Writes a label map for each photograph: NAME.png, of the photograph's own size; and for each frame of a video.

    The value of a pixel is its class id; the palette shows it in the class's colour. Folders keep their structure.
    An image that cannot be read, or a folder without images, is reported and the others go on; the exit code is then 1.
    The masks of a video are NAME/000000.png and so on, and its overlay is NAME.overlay.mp4.

    MODEL is the first word if that can be no image: if it ends in .onnx or .safetensors, or is a key, hf:// or https://.

      segzoo predict street.onnx photo.jpg
      segzoo predict street.onnx photos/ -o masks/ --overlay
      segzoo predict street.onnx photos/ --device cuda --batch 16 --skip-existing
      segzoo predict street.onnx aerial.tif --tile 1024 --overlap 256 --tta flip
      segzoo predict street.onnx clip.mp4 -o masks/ --overlay
      segzoo predict street.safetensors a.jpg b.jpg --device cuda:1
    """
    if force and skip_existing:
        raise typer.BadParameter("--force replaces the masks that --skip-existing keeps: pass one of them.")
    if overlap is not None and tile is None:
        raise typer.BadParameter("--overlap is of tiles: pass --tile too.")
    sizes = types.size(tile, "--tile"), types.size(overlap, "--overlap")
    views = types.augment(tta)
    name, images = _model_and_images(given)
    stills, films = video.split(images)
    planned = plan(stills, output, overlay, force, skip_existing)
    jobs, skipped = planned.jobs, planned.skipped
    clips = video.plan(films, jobs, output, overlay, force or skip_existing)
    if skipped:
        console.note(f"Skipped {skipped} of {skipped + len(jobs)} images, whose masks exist.")
    if not jobs and not clips and not skipped and len(planned.empty) == 1:
        raise next(iter(planned.empty.values()))
    for folder, error in planned.empty.items():
        console.note(console.failed(folder, error))
    if not jobs and not clips:
        _report_failed([*planned.empty], len(planned.empty) + skipped)
        return
    model = files.find(name)
    from segzoo.cli.predictors import How, open_model

    how = How(batch, *sizes, views)
    if how.given() and model.path.suffix.lower() != ".onnx":
        _show_export(how.given(), name, [word for word in given if word != name], types.typed(context))
        raise typer.Exit(1)
    with console.Steps(lines=False) as step:
        step(f"loading {name}")
        predictor = open_model(model, device, how)
        if predictor.channels not in (1, 3, 4):
            raise SegzooError(
                f"{name} takes images of {predictor.channels} channels, which no image file has. "
                "Pass arrays to segzoo.inference.Session instead."
            )
    if name not in given:
        console.note(f"No model is named: {name}, which ships with segzoo, finds {_some(predictor.labels.names)}.")
    console.note(predictor.why)
    failed = [*planned.empty, *(_segment(predictor, jobs, output) if jobs else [])]
    failed += [clip.video for clip in clips if not video.segment(predictor, clip, skip_existing)]
    kinds = ["images", *(["videos"] if clips else []), *(["folders"] if planned.empty else [])]
    _report_failed(failed, len(jobs) + len(clips) + len(planned.empty), " and ".join(kinds))


def _report_failed(failed: list[Path], total: int, what: str = "images and folders") -> None:
    """Ends the command with exit code 1 where something failed."""
    if failed:
        console.error(f"{len(failed)} of {total} {what} failed:")
        for path in failed:
            console.note(f"  {path}")
        raise typer.Exit(1)


def _show_export(asked: list[str], name: str, images: list[str], options: list[str]) -> None:
    """Says what only an .onnx file can do, and the two commands that do it, each on a line of its own to be copied."""
    blends = [option for option in asked if option != "--batch"]
    exported = files.exported(name)
    console.error(f"{' and '.join(asked)} can be had with an .onnx file only. These two lines write one and use it:")
    console.note("  " + shlex.join(["segzoo", "export", name, *(["--logits"] if blends else [])]))
    console.note("  " + shlex.join(["segzoo", "predict", exported, *images, *options]))


def _some(names: tuple[str, ...]) -> str:
    return f"{len(names)} classes, {', '.join(names[:3])} and so on"


def _model_and_images(given: list[str]) -> tuple[str, list[Path]]:
    """The model, which is the first word if that can be no image, and the images.

    Raises:
        UnknownNameError: the first word is neither.
        SegzooError: it is an image, and a model comes after it, or no model ships.
    """
    first, *rest = given
    if files.names_model(first):
        if not rest:
            raise typer.BadParameter(f"{first} is a model. Name images, folders or videos after it.")
        return first, [Path(word) for word in rest]
    later = [word for word in rest if files.names_model(word)]
    if later:
        right = shlex.join(["segzoo", "predict", later[0], *(word for word in given if word not in later)])
        more = f" One model a run, so leave out {' and '.join(later[1:])}." if later[1:] else ""
        raise SegzooError(f"{later[0]} is a model, and the model comes before the images: {right}{more}")
    if not Path(first).exists() and not Path(first).suffix:
        see = "It is no file, no folder and no key of `segzoo list --weights`."
        if first in DECODERS or first in PAPERS:
            see = f"{first} is an architecture, without weights; `segzoo list --weights` shows trained models."
        raise unknown("model or image", first, entries(), see)
    entry = default()
    if entry is None:
        raise SegzooError(f"No model ships with this segzoo. Name one before {first}, such as street.onnx.")
    return entry.key, [Path(word) for word in given]


def _segment(predictor: "Predictor", jobs: "Sequence[Job]", output: Path) -> list[Path]:
    """Writes the masks of images, and gives the images that failed."""
    start = time.perf_counter()
    failed: list[Path] = []
    done = 0
    try:
        # Closed at once when interrupted, so that no thread runs on behind the last line.
        results = cast("Generator[Result[Path]]", predictor.results([job.image for job in jobs]))
        with console.Bar(len(jobs)) as bar, closing(results):
            for job, result in zip(jobs, results, strict=True):
                try:
                    if result.error is not None:
                        raise result.error
                    assert result.labels is not None
                    _write(predictor, job, result.labels)
                    done += 1
                except (SegzooError, OSError) as error:
                    bar.note(console.failed(job.image, error))
                    failed.append(job.image)
                bar.advance()
    except KeyboardInterrupt:
        console.note(f"Interrupted. {done} of {len(jobs)} are written to {console.shown(output)}, each of them whole.")
        raise typer.Exit(130) from None
    seconds = time.perf_counter() - start
    if done:
        what = "1 mask" if done == 1 else f"{done} masks"
        if jobs[0].overlay is not None:
            what += " and its overlay" if done == 1 else " and their overlays"
        console.line(f"Wrote {what} to {console.shown(output)} in {seconds:.1f} s, {done / seconds:.1f} images/s.")
    return failed


def _write(predictor: "Predictor", job: Job, labels: "Labels") -> None:
    """The overlay first: --skip-existing takes an image that has a mask for done."""
    from segzoo import visualize
    from segzoo.data.images import read_image

    job.mask.parent.mkdir(parents=True, exist_ok=True)
    if job.overlay is not None:
        save_picture(visualize.overlay(read_image(job.image), labels, predictor.labels), job.overlay)
    visualize.save_mask(job.mask, labels, predictor.labels)


def save_picture(picture: "Image.Image", path: Path) -> None:
    """Writes a JPEG whole or not at all."""
    with written_aside(path) as draft:
        picture.save(draft, format="JPEG", quality=92)
