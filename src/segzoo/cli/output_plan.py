"""Which image goes to which files, settled before the first one is opened."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segzoo.errors import ImageError


@dataclass(frozen=True)
class Job:
    """One image and what is written for it."""

    image: Path
    mask: Path
    overlay: Path | None

    @property
    def outputs(self) -> tuple[Path, ...]:
        return (self.mask,) if self.overlay is None else (self.mask, self.overlay)


@dataclass(frozen=True)
class Plan:
    """What there is to do, how many images were left out since their mask exists, and the folders without an image."""

    jobs: list[Job]
    skipped: int
    empty: dict[Path, ImageError]
    """Each with what is to be said of it."""


def plan(images: Sequence[Path], folder: Path, overlay: bool, force: bool, skip_existing: bool = False) -> Plan:
    """The jobs for files and folders, in order.

    The structure of a folder of images is kept below `folder`.

    What lies in `folder` already is not taken for input when `folder` is inside a folder of images.

    Args:
        images: files and folders.
        folder: where the masks go; it need not exist.
        overlay: whether each job has an overlay too.
        force: whether files that exist may be replaced; the images themselves never are.
        skip_existing: whether images that have a mask are left out. An overlay is written before its mask, so that one
            without a mask is of an image that was interrupted, and is replaced.

    Raises:
        ImageError: nothing is at a path, two images with one mask, a mask on an image, a mask that exists.
    """
    if folder.exists() and not folder.is_dir():
        raise ImageError(f"{folder} is a file. Name a folder to write the masks into.")
    jobs: dict[str, Job] = {}
    taken: dict[str, Path] = {}
    empty: dict[Path, ImageError] = {}
    for image, name in _found(images, folder, empty):
        mask = folder / name.with_suffix(".png")
        job = Job(image, mask, folder / name.with_name(f"{name.stem}-overlay.jpg") if overlay else None)
        other = jobs.get(key(mask))
        if other is not None and key(other.image) != key(image):
            raise ImageError(
                f"{other.image} and {image} would both be written to {mask}. Rename one, or give their folders to two "
                "runs with an output folder each."
            )
        jobs[key(mask)] = job
        taken[key(image)] = image
    _protect(list(jobs.values()), taken, force or skip_existing)
    left = [job for job in jobs.values() if not (skip_existing and job.mask.exists())]
    return Plan(left, len(jobs) - len(left), empty)


def _found(images: Sequence[Path], folder: Path, empty: dict[Path, ImageError]) -> Iterator[tuple[Path, Path]]:
    """Each image and its name below the output folder; folders without one go to `empty`."""
    from segzoo.data.images import list_images

    output = folder.resolve()
    for path in images:
        inside = path.is_dir() and path.resolve() in output.parents
        try:
            everything = list_images(path)
        except ImageError as error:
            if not path.is_dir():
                raise
            empty[path] = error
            continue
        found = [image for image in everything if not (inside and output in image.resolve().parents)]
        if not found:
            raise ImageError(f"All images in {path} lie in the output folder {folder}. Choose another with -o.")
        for image in found:
            yield image, image.relative_to(path) if path.is_dir() else Path(image.name)


def _protect(jobs: Sequence[Job], images: "dict[str, Path]", force: bool) -> None:
    existing = []
    for output in (output for job in jobs for output in job.outputs):
        if key(output) in images:
            raise ImageError(f"{output} is one of the images, and would be overwritten. Choose another folder with -o.")
        if output.exists():
            existing.append(output)
    if not force:
        refuse(existing)


def refuse(existing: Sequence[Path]) -> None:
    """Raises ImageError where there are files that would be replaced."""
    if existing:
        count = f"{existing[0]} exists" if len(existing) == 1 else f"{len(existing)} files exist, such as {existing[0]}"
        raise ImageError(
            f"{count}. Pass --force to replace what is there, --skip-existing to go on with the others, or "
            "choose another folder with -o."
        )


def key(path: Path) -> str:
    """The same for two spellings of one file."""
    return os.path.normcase(path.resolve())
