"""`segzoo predict`: writes masks for images and videos."""

import itertools
import shlex
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast
from urllib.parse import urlsplit

import typer

from segzoo._io import atomic_write, similar_paths
from segzoo.cli import console, files, types, video
from segzoo.cli.output_plan import Job, plan
from segzoo.errors import ImageError, SegzooError, did_you_mean, shown, some, unknown
from segzoo.weights.catalog import default, entries
from segzoo.weights.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from PIL import Image

    from segzoo.inference import PredictOptions, Predictor, Segmentation


def predict(
    context: typer.Context,
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] INPUT",
            help=f"The model: {types.MODEL_OR_ONNX}; if omitted, the model that ships with segzoo. Then images, "
            "folders, which are searched recursively for images, and videos.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="The folder for the masks; created if it does not exist."
        ),
    ] = Path("masks"),
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay", help="Also write NAME-overlay.jpg: the image with its classes in color, and a legend."
        ),
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            metavar=types.DEVICES,
            help="The device to run on; auto is the first GPU, or the CPU if none works. tensorrt needs an .onnx file.",
        ),
    ] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of images of the same size to run at once.",
            show_default="8 on a GPU, 1 on the CPU",
        ),
    ] = None,
    tile: Annotated[
        str | None,
        typer.Option(metavar="H,W", help="Split larger images into tiles of this size."),
    ] = None,
    overlap: Annotated[
        str | None,
        typer.Option(
            metavar="H,W", help="Overlap of neighboring tiles, in pixels.", show_default="a quarter of the tile"
        ),
    ] = None,
    tta: Annotated[
        str | None,
        typer.Option(
            metavar="flip|SCALES",
            help="Average over views: flip; scales such as 0.75,1,1.25; or both.",
        ),
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Of a file with several pages (a TIFF, an animated GIF, PNG or WebP), the page to segment; all writes "
            "NAME-p1.png, NAME-p2.png, ...",
            show_default="1",
        ),
    ] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Skip images whose mask exists, to resume an interrupted run.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing masks and overlays.")] = False,
) -> None:
    """Segment images and videos, and write their masks.

    The mask of an image is NAME.png, of the same size as the image: each pixel is a class id, and the palette shows the
    color of the class. Subfolders are kept. The masks of a video are NAME/000000.png, NAME/000001.png, ..., and its
    overlay is NAME.overlay.mp4. If an input cannot be read, the command reports it, processes the others, and exits
    with code 1.

    The first argument is the model if it ends in .onnx or .safetensors, or is a catalog key, hf:// or https:// URL.

    Examples:

      segzoo predict street.onnx photo.jpg
      segzoo predict street.onnx photos/ -o masks/ --overlay
      segzoo predict street.onnx photos/ --device cuda --batch-size 16 --skip-existing
      segzoo predict street.onnx aerial.tif --tile 1024 --overlap 256 --tta flip
      segzoo predict street.onnx scan.tif --page all
      segzoo predict street.onnx clip.mp4 -o masks/ --overlay
      segzoo predict street.safetensors a.jpg b.jpg --device cuda:1
    """
    if force and skip_existing:
        raise typer.BadParameter("--force and --skip-existing contradict each other. Pass one of them.")
    if overlap is not None and tile is None:
        raise typer.BadParameter("--overlap needs --tile.")
    sizes = types.parse_size(tile, "--tile"), types.parse_size(overlap, "--overlap")
    views, pages = types.parse_tta(tta), types.parse_page(page)
    name, inputs = _split_arguments(arguments)
    images, videos = video.split_videos(inputs)
    planned = plan(images, output, overlay, force, skip_existing, pages)
    jobs, skipped = planned.jobs, planned.skipped
    clips = video.plan(videos, jobs, output, overlay, force or skip_existing)
    if skipped:
        console.note(f"Skipped {skipped} of {skipped + len(jobs)} images, because their masks exist.")
    if not jobs and not clips and not skipped and len(planned.empty) == 1:
        raise next(iter(planned.empty.values()))
    if name not in arguments and inputs[0] in planned.empty:
        raise planned.empty[inputs[0]]  # a folder that was meant as the model
    for folder, error in planned.empty.items():
        console.note(console.failure(folder, error))
    if not jobs and not clips:
        _report_failed([*planned.empty], len(planned.empty) + skipped)
        return
    model = files.find(name, exported=True)
    from segzoo.inference import Predictor

    options: PredictOptions = {"tile": sizes[0], "overlap": sizes[1], "tta": views}
    with console.Steps(lines=False) as step:
        step(f"loading {name}")
        predictor = Predictor(model, device)
        if predictor.spec.in_channels not in (1, 3, 4):
            raise SegzooError(
                f"{name} takes images with {predictor.spec.in_channels} channels, which image files cannot hold. "
                "Pass arrays to segzoo.Predictor instead."
            )
        predictor.stream((), **options)  # raises at once if the options do not suit the model
    if name not in arguments:
        console.note(f"Using {name}, which ships with segzoo: {_summary(predictor.classes.names)}.")
    console.note(predictor.device_reason)
    failed = [*planned.empty]
    if jobs:
        failed += _segment(predictor, jobs, output, batch_size, options, note_pages=page is None)
    failed += [clip.video for clip in clips if not video.segment(predictor, clip, skip_existing, batch_size, options)]
    kinds = ["images", *(["videos"] if clips else []), *(["folders"] if planned.empty else [])]
    _report_failed(failed, len(jobs) + len(clips) + len(planned.empty), " and ".join(kinds))


def _refuse_image_address(word: str) -> None:
    """An address names a model; that of a picture would be downloaded as one."""
    from segzoo.data.images import IMAGE_SUFFIXES

    if resolve(word) == "url" and Path(urlsplit(word).path).suffix.lower() in IMAGE_SUFFIXES:
        raise SegzooError(f"segzoo downloads models, not images. Download {shown(word)} and pass the file.")


def _report_failed(failed: list[Path], total: int, what: str = "images and folders") -> None:
    """Lists the inputs that failed, if any, and exits with code 1."""
    if failed:
        console.error(f"{len(failed)} of {total} {what} failed:")
        for path in failed:
            console.note(f"  {shown(path, most=10_000)}")  # whole, to be found
        raise typer.Exit(1)


def _summary(names: tuple[str, ...]) -> str:
    return f"{len(names)} classes ({', '.join(names[:3])}, ...)"


def _split_arguments(arguments: list[str]) -> tuple[str, list[Path]]:
    """The model, given or default, and the inputs.

    Raises:
        UnknownNameError: the first argument is neither a model nor an input.
        SegzooError: a model follows an input, or none is given and none ships.
    """
    if not all(arguments):
        raise typer.BadParameter("An argument is empty. Name images, folders or videos.")
    first, *rest = arguments
    for word in arguments:
        _refuse_image_address(word)
    if files.is_model(first):
        if not rest:
            raise typer.BadParameter(f"{first} is a model. Name images, folders or videos after it.")
        if not files.is_key_or_url(first) and not Path(first).is_dir():
            files.require_model_file(Path(first))  # else an error about the outputs might come first
        return first, [Path(word) for word in rest]
    for word in arguments:
        files.refuse_foreign(word)
    models = [word for word in rest if files.is_model(word)]
    if models:
        command = shlex.join(["segzoo", "predict", models[0], *(word for word in arguments if word not in models)])
        more = f" A run takes one model, so omit {' and '.join(models[1:])}." if models[1:] else ""
        raise SegzooError(f"{models[0]} is a model, and the model comes before the images: {command}{more}")
    _check_input(Path(first))
    entry = default()
    if entry is None:
        raise SegzooError(f"No model ships with this segzoo. Name one before {first}, such as street.onnx.")
    return entry.key, [Path(word) for word in arguments]


_MAX_COUNT = 1001
"""Pages are counted up to here for a note."""


def _check_input(first: Path) -> None:
    """Checks that the first argument, which is no model, is an input: otherwise it was probably meant as one.

    Raises:
        UnknownNameError: there is nothing of that name.
        ImageError: there is no such file, or it is neither an image nor a video.
    """
    from segzoo.data.images import IMAGE_SUFFIXES, is_image
    from segzoo.data.video import VIDEO_SUFFIXES

    models = "Models end in .onnx or .safetensors; `segzoo list --weights` shows those that need no file."
    suffix = first.suffix.lower()
    if not first.exists():
        if not suffix:
            hint = "It is not a file, a folder, or a key of `segzoo list --weights`."
            if resolve(str(first)) == "architecture":
                hint = f"{first} is an architecture without weights; `segzoo list --weights` shows trained models."
            raise unknown("model or image", str(first), [*entries(), *similar_paths(first)], hint)
        remedy = "Check the path." if suffix in (IMAGE_SUFFIXES | VIDEO_SUFFIXES) else models
        raise ImageError(f"There is no file or folder {str(first)!r}.{did_you_mean(similar_paths(first))} {remedy}")
    if first.is_file() and suffix not in VIDEO_SUFFIXES and not is_image(first):
        raise ImageError(f"{first} is neither a model nor an image nor a video. {models}")


def _segment(
    predictor: "Predictor",
    jobs: "Sequence[Job]",
    output: Path,
    batch_size: int | None,
    options: "PredictOptions",
    note_pages: bool,
) -> list[Path]:
    """Writes the masks of images, and returns the images that failed.

    With `note_pages`, a note names the files that have more pages than the one that was read.
    """
    from segzoo.data.pages import count_pages

    start = time.perf_counter()
    failed: list[Path] = []
    several: list[str] = []
    done = 0
    try:
        with console.Bar(len(jobs)) as bar:

            def fail(image: Path, error: Exception) -> None:
                bar.note(console.failure(image, error))
                failed.append(image)
                bar.advance()

            # A stream reads one page of its files; of most files, the first is the only one.
            for page, group in itertools.groupby(sorted(jobs, key=lambda job: job.page), key=lambda job: job.page):
                planned = {job.image: job for job in group}
                of_page: PredictOptions = {**options, "page": page}
                results = predictor.stream(planned, batch_size=batch_size, on_error=fail, **of_page)
                # Closed at once if interrupted, so that no thread keeps running after the last message.
                with closing(cast("Generator[Segmentation]", results)):
                    for result in results:
                        assert result.path is not None
                        try:
                            _write(planned[result.path], result)
                        except OSError as error:
                            fail(result.path, error)
                            continue
                        if note_pages and (count := count_pages(result.path, _MAX_COUNT)) > 1:
                            over = "over " if count == _MAX_COUNT else ""
                            several.append(f"{result.path} (page 1 of {over}{count - bool(over):,})")
                        done += 1
                        bar.advance()
    except KeyboardInterrupt:
        console.note(
            f"Interrupted. {done} of {len(jobs)} images are done; their masks are in {console.display_path(output)}."
        )
        raise typer.Exit(130) from None
    seconds = time.perf_counter() - start
    if done:
        outputs = "1 mask" if done == 1 else f"{done} masks"
        if jobs[0].overlay is not None:
            outputs += " and its overlay" if done == 1 else " and their overlays"
        console.line(
            f"Wrote {outputs} to {console.display_path(output)} in {seconds:.1f} s, {done / seconds:.1f} images/s."
        )
    if several:
        console.note(f"Only one page was read of {some(several, 3)}. --page N selects another, --page all takes each.")
    return failed


def _write(job: Job, result: "Segmentation") -> None:
    """Writes the overlay before the mask, because --skip-existing skips images that have a mask."""
    from segzoo import visualize
    from segzoo.data.images import read_image

    job.mask.parent.mkdir(parents=True, exist_ok=True)
    if job.overlay is not None:
        save_picture(visualize.overlay(read_image(job.image, page=job.page), result.mask, result.classes), job.overlay)
    visualize.save_mask(job.mask, result.mask, result.classes)


def save_picture(picture: "Image.Image", path: Path) -> None:
    """Writes a JPEG atomically."""
    with atomic_write(path) as draft:
        picture.save(draft, format="JPEG", quality=92)
