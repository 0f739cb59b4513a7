"""Pages of image files: those of a TIFF, and the frames of an animated GIF, PNG, WebP or AVIF."""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from segzoo.data.open_image import open_image
from segzoo.errors import ImageError

PAGED_SUFFIXES = frozenset({".apng", ".avif", ".gif", ".png", ".tif", ".tiff", ".webp"})
"""The suffixes, in lower case, of files that may have several pages."""

_FORMATS = ("TIFF", "GIF", "PNG", "WEBP", "AVIF")
"""Pillow's names of these formats. Not MPO: the further pictures in a photograph are previews and depth maps."""

_NEW_SUBFILE_TYPE = 254
_REDUCED_OR_MASK = 0b101
"""Bits of the tag above: a smaller version of another page, as in a pyramid, or its transparency mask."""


def select(image: Image.Image, page: int, name: str) -> None:
    """Goes to a page of an open file. Pages are numbered from 1.

    Raises:
        ImageError: there is no such page; `name` is what the message calls the file.
    """
    index = next(itertools.islice(_frames(image), min(page, sys.maxsize) - 1, None), None)
    if index is None:
        count = sum(1 for _ in _frames(image))
        raise ImageError(
            f"{name} has {'one page' if count == 1 else f'{count:,} pages'}, so there is no page {page:,}. "
            f"Choose {'page 1' if count == 1 else f'a page from 1 to {count:,}'}."
        )
    if image.tell() != index:
        image.seek(index)


def has_several(image: Image.Image) -> bool:
    """Whether an open file has more than one page. The file is left at the page where it was."""
    if image.format != "TIFF":
        return image.format in _FORMATS and getattr(image, "is_animated", False)
    before = image.tell()
    several = len(list(itertools.islice(_frames(image), 2))) == 2
    image.seek(before)
    return several


def count_pages(path: Path, most: int | None = None) -> int:
    """The number of pages of a file; 1 if it cannot be read, which whoever reads it reports.

    Args:
        most: where to stop counting: in a TIFF, each page refers to the next.
    """
    if path.suffix.lower() not in PAGED_SUFFIXES or not path.is_file():
        return 1
    try:
        with path.open("rb") as stream, open_image(stream) as image:
            return sum(1 for _ in itertools.islice(_frames(image), most))
    except Exception:  # of whatever type Pillow's decoders raise
        return 1


def _frames(image: Image.Image) -> Iterator[int]:
    """Pillow's number of each page, at least one; a TIFF is at that page when it is yielded."""
    if image.format != "TIFF":
        yield from range(getattr(image, "n_frames", 1) if image.format in _FORMATS else 1)
        return
    found = False
    for index in itertools.count():
        try:
            image.seek(index)
        except Exception:  # EOFError after the last one; of a damaged file, the pages before the damage are read
            break
        kind = image.tag_v2.get(_NEW_SUBFILE_TYPE, 0)  # type: ignore[attr-defined]
        if not (isinstance(kind, int) and kind & _REDUCED_OR_MASK):
            found = True
            yield index
    if not found:
        image.seek(0)
        yield 0
