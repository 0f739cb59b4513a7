"""The videos of `segzoo predict`: a mask for each frame, and one video of all overlays."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from segzoo.cli import console
from segzoo.cli.output_plan import Job, key, refuse
from segzoo.errors import ImageError, SegzooError

if TYPE_CHECKING:
    from PIL import Image

    from segzoo.cli.predictors import Predictor
    from segzoo.data.video import Pixels
    from segzoo.inference import Result
    from segzoo.inference.stream import Labels

    Step = tuple[Image.Image, Labels | None, bool]
    """A frame, its labels unless nobody needs them, and whether its mask was there before."""


@dataclass(frozen=True)
class Clip:
    """One video and what is written for it: masks in a folder, and a video of overlays."""

    video: Path
    folder: Path
    overlay: Path | None

    def mask(self, number: int) -> Path:
        """The mask of a frame, counted from 0."""
        return self.folder / f"{number:06}.png"

    def existing(self) -> list[Path]:
        """What is there already."""
        masks = sorted(path for path in self.folder.glob("*.png") if path.stem.isdecimal() and len(path.stem) >= 6)
        return masks + [path for path in (self.overlay,) if path is not None and path.exists()]


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Images and folders, and videos, which are known by the endings of their names."""
    from segzoo.data.video import VIDEO_SUFFIXES

    videos = [path for path in paths if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()]
    return [path for path in paths if path not in videos], videos


def plan(videos: Sequence[Path], jobs: Sequence[Job], folder: Path, overlay: bool, keep: bool) -> list[Clip]:
    """Each video and where its masks go, settled before the first one is opened.

    Args:
        jobs: the images of the same run.
        folder: where the masks go; it need not exist.
        overlay: whether each video has an overlay too.
        keep: whether files may be there: the run replaces them, or leaves them.

    Raises:
        ImageError: nothing is at a path, two videos with one folder, an output on an input, a mask that exists.
        SegzooError: PyAV is not installed.
    """
    from segzoo.data.video import require_av

    if videos:
        require_av()
    clips: dict[str, Clip] = {}
    for video in videos:
        if not video.is_file():
            raise ImageError(f"There is no file or folder {str(video)!r}. Check the path.")
        clip = Clip(video, folder / video.stem, folder / f"{video.stem}.overlay.mp4" if overlay else None)
        other = clips.setdefault(key(clip.folder), clip)
        if key(other.video) != key(video):
            raise ImageError(
                f"The masks of {other.video} and {video} would both be written to {clip.folder}. Rename one, or give "
                "them to two runs with an output folder each."
            )
    taken = {key(path): path for path in (*videos, *(job.image for job in jobs))}
    for clip in clips.values():
        _protect(clip, taken, jobs)
        if not keep:
            refuse(clip.existing())
    return list(clips.values())


def segment(predictor: "Predictor", clip: Clip, skip_existing: bool) -> bool:
    """Writes the masks of a video and its overlay, and says whether all of it could be read.

    With `skip_existing` a mask that is there is left, and drawn into an overlay that is not there yet.
    """
    import numpy as np

    from segzoo import visualize
    from segzoo.data.images import read_image
    from segzoo.data.video import frames, measure, written_video

    start = time.perf_counter()
    lost: list[ImageError] = []
    number = written = 0
    drawn = None if skip_existing and clip.overlay is not None and clip.overlay.exists() else clip.overlay
    try:
        rate, total = measure(clip.video)
        clip.folder.mkdir(parents=True, exist_ok=True)
        with console.Bar(total, "frames") as bar, ExitStack() as stack:
            draw = None if drawn is None else stack.enter_context(written_video(drawn, rate))
            # Closed at once when interrupted, so that no thread runs on behind the last line.
            pictures = stack.enter_context(closing(cast("Generator[Pixels]", frames(clip.video, lost.append))))
            steps = stack.enter_context(closing(_labelled(predictor, clip, pictures, skip_existing, draw is not None)))
            for number, (picture, labels, existed) in enumerate(steps, start=1):
                if draw is not None:
                    assert labels is not None
                    over = visualize.overlay(read_image(picture), labels, predictor.labels, legend=False)
                    draw(np.asarray(over))
                if not existed:
                    assert labels is not None
                    visualize.save_mask(clip.mask(number - 1), labels, predictor.labels)
                    written += 1
                bar.advance()
    except KeyboardInterrupt:
        console.note(f"Interrupted. {_masks(written)} of {clip.video} are in {console.shown(clip.folder)}, each whole.")
        raise typer.Exit(130) from None
    except (SegzooError, OSError) as error:
        console.note(console.failed(clip.video, error))
        return False
    if number > written:
        console.note(f"Skipped {number - written} of {number} frames of {clip.video}, whose masks exist.")
    if written or drawn is not None:
        seconds = time.perf_counter() - start
        what = f"{_masks(written)} to {console.shown(clip.folder)}" if written else ""
        what += (" and " if written and drawn is not None else "") + (str(drawn) if drawn is not None else "")
        console.line(f"Wrote {what} in {seconds:.1f} s, {number / seconds:.1f} frames/s.")
    if lost:
        console.note(console.failed(clip.video, lost[0]))
    if len(lost) > 1:
        console.note(f"  It is damaged in {len(lost)} places.")
    return not lost


def _labelled(
    predictor: "Predictor", clip: Clip, pictures: "Iterator[Pixels]", skip_existing: bool, needed: bool
) -> "Generator[Step]":
    """The frames in order, each with its labels: those of its mask where it has one, and the model's otherwise."""
    from PIL import Image

    numbered = enumerate(Image.fromarray(pixels) for pixels in pictures)
    # In runs, since what has a mask must not wait in memory behind what is still to be segmented.
    for existed, run in groupby(numbered, lambda frame: skip_existing and clip.mask(frame[0]).exists()):
        if existed:
            for number, picture in run:
                yield picture, _read_mask(clip.mask(number)) if needed else None, True
            continue
        results = cast("Generator[Result[Image.Image]]", predictor.results(picture for _, picture in run))
        with closing(results):
            for result in results:
                # What fails on one frame, memory for one, fails on all: they are of one size.
                if result.error is not None:
                    raise result.error
                yield result.source, result.labels, False


def _read_mask(path: Path) -> "Labels":
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as mask:
            if mask.mode == "P":
                return np.asarray(mask)
        reason = "it has no palette"
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead to.
        reason = str(error)
    raise ImageError(f"{path} is no mask that segzoo wrote: {reason}. Delete it, and the next run makes it anew.")


def _protect(clip: Clip, inputs: dict[str, Path], jobs: Sequence[Job]) -> None:
    """Raises ImageError where the outputs of a video would replace an input, or meet those of an image."""
    overwritten = [path for path in inputs.values() if key(path.parent) == key(clip.folder)]
    if clip.overlay is not None and key(clip.overlay) in inputs:
        overwritten.append(clip.overlay)
    if overwritten:
        raise ImageError(
            f"{overwritten[0]} is one of the inputs, and lies where the outputs of {clip.video} go. Choose another "
            "folder with -o."
        )
    for job in jobs:
        if any(key(output.parent) == key(clip.folder) for output in job.outputs):
            raise ImageError(
                f"The masks of {job.image} and of {clip.video} would both be written to {clip.folder}. Give them to "
                "two runs with an output folder each."
            )
    if clip.folder.exists() and not clip.folder.is_dir():
        raise ImageError(f"{clip.folder} is a file, and the masks of {clip.video} go into a folder of that name.")


def _masks(count: int) -> str:
    return "1 mask" if count == 1 else f"{count} masks"
