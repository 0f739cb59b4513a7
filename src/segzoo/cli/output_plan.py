"""Which image is written to which files, decided before the first image is opened."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segzoo.cli import files
from segzoo.errors import ImageError


@dataclass(frozen=True)
class Job:
    """One image and its output files. `page` is its page in the file, from 1 up."""

    image: Path
    mask: Path
    overlay: Path | None
    page: int = 1

    @property
    def outputs(self) -> tuple[Path, ...]:
        return (self.mask,) if self.overlay is None else (self.mask, self.overlay)


@dataclass(frozen=True)
class Plan:
    """The jobs to run, the number of images skipped because their mask exists, and the folders without images."""

    jobs: list[Job]
    skipped: int
    empty: dict[Path, ImageError]
    """Each folder with the error to report for it."""


def plan(
    images: Sequence[Path],
    folder: Path,
    overlay: bool,
    force: bool,
    skip_existing: bool = False,
    page: int | Literal["all"] = 1,
) -> Plan:
    """The jobs for files and folders, in order.

    Subfolders of a folder of images are kept below `folder`. If `folder` is inside a folder of images, its own contents
    are not taken as input.

    Args:
        images: files and folders.
        folder: the output folder; it need not exist.
        overlay: whether each job has an overlay too.
        force: whether existing files may be replaced; the images themselves never are.
        skip_existing: whether images that have a mask are skipped. An overlay is written before its mask, so an overlay
            without a mask belongs to an interrupted image and is replaced.
        page: the page to read of each file, from 1 up; "all" makes a job for each page, and the masks of a file with
            several are NAME-p1.png, NAME-p2.png, ... So is that of a page from 2 up which is chosen.

    Raises:
        ImageError: a path does not exist, two images have the same mask, or an output would overwrite an image or an
            existing file.
    """
    if folder.exists() and not folder.is_dir():
        raise ImageError(f"{folder} is a file. Name a folder with -o.")
    jobs: dict[str, Job] = {}
    inputs: dict[str, Path] = {}
    empty: dict[Path, ImageError] = {}
    for image, name, number in _list_pages(_list_inputs(images, folder, empty), page):
        mask = folder / name.with_name(f"{name.stem}.png")
        job = Job(image, mask, folder / name.with_name(f"{name.stem}-overlay.jpg") if overlay else None, number)
        other = jobs.get(path_key(mask))
        if other is not None and path_key(other.image) != path_key(image):
            raise ImageError(
                f"{other.image} and {image} would both be written to {mask}. Rename one, or process their folders in "
                "two runs with different output folders."
            )
        jobs[path_key(mask)] = job
        inputs[path_key(image)] = image
    _check_outputs(list(jobs.values()), inputs, force or skip_existing)
    remaining = [job for job in jobs.values() if not (skip_existing and job.mask.exists())]
    return Plan(remaining, len(jobs) - len(remaining), empty)


def _list_inputs(images: Sequence[Path], folder: Path, empty: dict[Path, ImageError]) -> Iterator[tuple[Path, Path]]:
    """Each image and its path relative to the output folder; folders without images are added to `empty`."""
    output = _real(folder)
    for path in images:
        contains_output = path.is_dir() and _real(path) in output.parents
        try:
            candidates = files.images(path)
        except ImageError as error:
            if not path.is_dir():
                raise
            empty[path] = error
            continue
        inputs = [image for image in candidates if not (contains_output and output in _real(image).parents)]
        if not inputs:
            raise ImageError(f"All images in {path} are in the output folder {folder}. Choose another with -o.")
        for image in inputs:
            yield image, image.relative_to(path) if path.is_dir() else Path(image.name)


def _list_pages(inputs: Iterable[tuple[Path, Path]], page: int | Literal["all"]) -> Iterator[tuple[Path, Path, int]]:
    """Each image, the path that its outputs are named after, relative to the output folder, and the page to read."""
    from segzoo.data.pages import count_pages

    for image, name in inputs:
        pages = range(1, count_pages(image) + 1) if page == "all" else [page]
        for number in pages:
            # Page 1 alone is the one that is read without a choice. Each other page gets its number.
            several = number > 1 or len(pages) > 1
            yield image, name.with_name(f"{name.stem}-p{number}{name.suffix}") if several else name, number


def _check_outputs(jobs: Sequence[Job], inputs: dict[str, Path], replace: bool) -> None:
    existing = []
    for output in (output for job in jobs for output in job.outputs):
        if path_key(output) in inputs:
            raise ImageError(f"{output} is one of the images and would be overwritten. Choose another folder with -o.")
        if output.exists():
            existing.append(output)
    if not replace:
        refuse_existing(existing)


def refuse_existing(existing: Sequence[Path]) -> None:
    """Raises ImageError if there are files that would be replaced."""
    if existing:
        count = f"{existing[0]} exists" if len(existing) == 1 else f"{len(existing)} files exist, such as {existing[0]}"
        raise ImageError(
            f"{count}. Pass --force to replace existing files, --skip-existing to process only the other images, or "
            "choose another folder with -o."
        )


def path_key(path: Path) -> str:
    """A string that is equal for different spellings of the same path."""
    return os.path.normcase(_real(path))


def _real(path: Path) -> Path:
    """The path without links. `Path.resolve` raises if links form a loop; whoever opens such a file reports it."""
    return Path(os.path.realpath(path))
