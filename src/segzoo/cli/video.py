"""`segzoo predict` on videos: a mask for each frame, and one video of the overlays."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby, tee
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from segzoo.cli import console
from segzoo.cli.output_plan import Job, path_key, refuse_existing
from segzoo.errors import ImageError, SegzooError

if TYPE_CHECKING:
    from PIL import Image

    from segzoo.data.video import Pixels
    from segzoo.inference import PredictOptions, Predictor, Segmentation
    from segzoo.inference.result import Mask

    Frame = tuple[Image.Image, Mask | None, bool]
    """A frame, its mask (None if it is not needed), and whether the mask file already existed."""


@dataclass(frozen=True)
class Clip:
    """One video and its outputs: a folder of masks, and a video of overlays."""

    video: Path
    folder: Path
    overlay: Path | None

    def mask(self, index: int) -> Path:
        """The mask file of a frame; indices start at 0."""
        return self.folder / f"{index:06}.png"

    def existing(self) -> list[Path]:
        """The outputs that already exist."""
        masks = sorted(path for path in self.folder.glob("*.png") if path.stem.isdecimal() and len(path.stem) >= 6)
        return masks + [path for path in (self.overlay,) if path is not None and path.exists()]


def split_videos(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Images and folders, and videos, which are recognized by their suffixes."""
    from segzoo.data.video import VIDEO_SUFFIXES

    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()]
    return [path for path in paths if path not in videos], videos


def plan(videos: Sequence[Path], jobs: Sequence[Job], folder: Path, overlay: bool, keep: bool) -> list[Clip]:
    """Each video with its outputs, decided before the first video is opened.

    Args:
        jobs: the images of the same run.
        folder: the output folder; it need not exist.
        overlay: whether each video has an overlay too.
        keep: whether outputs may exist, because the run replaces or skips them.

    Raises:
        ImageError: a path does not exist, two inputs have the same output folder, or an output would overwrite an input
            or an existing file.
        MissingPackageError: PyAV is not installed.
    """
    from segzoo.data.video import require_av

    if videos:
        require_av()
    clips: dict[str, Clip] = {}
    for video in videos:
        if not video.is_file():
            raise ImageError(f"There is no file or folder {str(video)!r}. Check the path.")
        clip = Clip(video, folder / video.stem, folder / f"{video.stem}.overlay.mp4" if overlay else None)
        other = clips.setdefault(path_key(clip.folder), clip)
        if path_key(other.video) != path_key(video):
            raise ImageError(
                f"The masks of {other.video} and {video} would both be written to {clip.folder}. Rename one, or "
                "process them in two runs with different output folders."
            )
    inputs = {path_key(path): path for path in (*videos, *(job.image for job in jobs))}
    for clip in clips.values():
        _check_outputs(clip, inputs, jobs)
        if not keep:
            refuse_existing(clip.existing())
    return list(clips.values())


def segment(
    predictor: "Predictor", clip: Clip, skip_existing: bool, batch_size: int | None, options: "PredictOptions"
) -> bool:
    """Writes the masks and the overlay of a video, and returns whether all of it was readable.

    With `skip_existing`, existing masks are kept, and a missing overlay is drawn from them.
    """
    import numpy as np

    from segzoo import visualize
    from segzoo.data.images import read_image
    from segzoo.data.video import frames, measure, written_video

    start = time.perf_counter()
    damage: list[ImageError] = []
    count = written = 0
    overlay = None if skip_existing and clip.overlay is not None and clip.overlay.exists() else clip.overlay
    try:
        rate, total = measure(clip.video)
        clip.folder.mkdir(parents=True, exist_ok=True)
        with console.Bar(total, "frames") as bar, ExitStack() as stack:
            draw = None if overlay is None else stack.enter_context(written_video(overlay, rate))
            # Closed at once if interrupted, so that no thread keeps running after the last message.
            pictures = stack.enter_context(closing(cast("Generator[Pixels]", frames(clip.video, damage.append))))

            def predict(images: "Iterator[Image.Image]") -> "Iterator[Segmentation]":
                return predictor.stream(images, batch_size=batch_size, **options)

            masks = _frames_with_masks(predict, clip, pictures, skip_existing, draw is not None)
            for count, (picture, mask, existed) in enumerate(stack.enter_context(closing(masks)), start=1):
                if draw is not None:
                    assert mask is not None
                    drawn = visualize.overlay(read_image(picture), mask, predictor.classes, legend=False)
                    draw(np.asarray(drawn))
                if not existed:
                    assert mask is not None
                    visualize.save_mask(clip.mask(count - 1), mask, predictor.classes)
                    written += 1
                bar.advance()
    except KeyboardInterrupt:
        console.note(f"Interrupted. {_masks(written)} of {clip.video} written to {console.display_path(clip.folder)}.")
        raise typer.Exit(130) from None
    except (SegzooError, OSError) as error:
        console.note(console.failure(clip.video, error))
        return False
    if count > written:
        console.note(f"Skipped {count - written} of {count} frames of {clip.video}, because their masks exist.")
    outputs = [f"{_masks(written)} to {console.display_path(clip.folder)}"] if written else []
    outputs += [str(overlay)] if overlay is not None else []
    if outputs:
        seconds = time.perf_counter() - start
        console.line(f"Wrote {' and '.join(outputs)} in {seconds:.1f} s, {count / seconds:.1f} frames/s.")
    if damage:
        console.note(console.failure(clip.video, damage[0]))
    if len(damage) > 1:
        console.note(f"  The video is damaged in {len(damage)} places.")
    return not damage


def _frames_with_masks(
    predict: "Callable[[Iterator[Image.Image]], Iterator[Segmentation]]",
    clip: Clip,
    pictures: "Iterator[Pixels]",
    skip_existing: bool,
    read_existing: bool,
) -> "Generator[Frame]":
    """The frames in order, each with its mask: the existing file if `skip_existing`, else the model's prediction."""
    from PIL import Image

    numbered = enumerate(Image.fromarray(pixels) for pixels in pictures)
    # In runs, so that frames that have a mask do not wait in memory for frames that are being segmented.
    for existed, run in groupby(numbered, lambda frame: skip_existing and clip.mask(frame[0]).exists()):
        if existed:
            for index, picture in run:
                yield picture, _read_mask(clip.mask(index)) if read_existing else None, True
            continue
        images, shown = tee(picture for _, picture in run)
        # An error is raised: all frames have the same size, so one such as out of memory would hit every one of them.
        results = cast("Generator[Segmentation]", predict(images))
        with closing(results):
            for result, picture in zip(results, shown, strict=False):
                yield picture, result.mask, False


def _read_mask(path: Path) -> "Mask":
    import numpy as np

    from segzoo.data.open_image import open_image

    try:
        with path.open("rb") as stream, open_image(stream) as mask:
            if mask.mode == "P":
                return np.asarray(mask)
        reason = "it has no palette"
    except Exception as error:  # Pillow's decoders raise all sorts of errors on broken files.
        reason = str(error)
    raise ImageError(f"{path} is not a mask that segzoo wrote: {reason}. Delete it, and the next run writes it again.")


def _check_outputs(clip: Clip, inputs: dict[str, Path], jobs: Sequence[Job]) -> None:
    """Raises ImageError if the outputs of a video would replace an input, or share a folder with those of an image."""
    overwritten = [path for path in inputs.values() if path_key(path.parent) == path_key(clip.folder)]
    if clip.overlay is not None and path_key(clip.overlay) in inputs:
        overwritten.append(clip.overlay)
    if overwritten:
        raise ImageError(
            f"{overwritten[0]} is one of the inputs and could be overwritten by the outputs of {clip.video}. Choose "
            "another folder with -o."
        )
    for job in jobs:
        if any(path_key(output.parent) == path_key(clip.folder) for output in job.outputs):
            raise ImageError(
                f"The masks of {job.image} and of {clip.video} would both be written to {clip.folder}. Process them "
                "in two runs with different output folders."
            )
    if clip.folder.exists() and not clip.folder.is_dir():
        raise ImageError(
            f"{clip.folder} is a file, but the masks of {clip.video} need a folder of that name. Move it, or choose "
            "another folder with -o."
        )


def _masks(count: int) -> str:
    return "1 mask" if count == 1 else f"{count} masks"
