"""Formats of images that segzoo does not read by itself: how to recognize them, and what to do with them."""

import functools
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from segzoo.errors import ImageError, some

_NOT_PICTURES = ("EPS", "PSD")
"""Formats of Pillow itself that are never opened: one is a program, and the other may hold a placeholder."""


@dataclass(frozen=True)
class ImageFormat:
    """A format that Pillow does not open by itself, or opens as something else than the picture.

    Attributes:
        name: for messages.
        suffixes: in lower case with the dot.
        remedy: what to do with such a file, beginning with a verb.
        signatures: how such files begin: an offset and the bytes there.
        plugin: the module of a package that teaches Pillow the format, and the function that registers it; "" if the
            import does.
        misread: whether Pillow opens it by itself, but not for the picture: a raw photograph holds a small preview, a
            PSD file may hold a placeholder, and EPS is a program that would run.
    """

    name: str
    suffixes: tuple[str, ...]
    remedy: str
    signatures: tuple[tuple[int, bytes], ...] = ()
    plugin: tuple[str, str] | None = None
    misread: bool = False

    def is_readable(self) -> bool:
        """Whether Pillow reads it, because of a plugin that is installed or that somebody registered."""
        if self.plugin is not None:
            _load_plugin(*self.plugin)
        return bool(self.registered())

    def registered(self) -> set[str]:
        """Pillow's names of the format, if a plugin has been registered for it."""
        names = {Image.EXTENSION.get(suffix, "") for suffix in self.suffixes}
        return {name for name in names if name in Image.OPEN and name not in _NOT_PICTURES}

    def error(self, name: str) -> ImageError:
        """The error for a file that `name` quotes."""
        return ImageError(f"{name} has a format that segzoo does not read ({self.name}). {self.remedy}.")


_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

FORMATS = (
    ImageFormat(
        "HEIF",
        (".heic", ".heif", ".hif"),
        "Convert to JPEG or PNG, or run: pip install pillow-heif",
        tuple((4, b"ftyp" + brand) for brand in _HEIF_BRANDS),
        ("pillow_heif", "register_heif_opener"),
    ),
    ImageFormat(
        "JPEG XL",
        (".jxl",),
        "Convert to JPEG or PNG, or run: pip install pillow-jxl-plugin",
        ((0, b"\xff\x0a"), (0, b"\0\0\0\x0cJXL \r\n\x87\n")),
        ("pillow_jxl", ""),
    ),
    ImageFormat(
        "camera raw",
        (
            *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf", ".pef"),
            *(".srw", ".x3f", ".3fr", ".iiq", ".rwl"),
        ),
        "Develop to JPEG, PNG or TIFF",
        ((8, b"CR\x02"), (4, b"ftypcrx "), (0, b"FUJIFILMCCD-RAW"), (0, b"IIRO"), (0, b"IIU\0"), (0, b"FOVb")),
        misread=True,
    ),
    ImageFormat(
        "layered image",
        (".psd", ".psb", ".xcf"),
        "Export as PNG or TIFF",
        ((0, b"8BPS"), (0, b"gimp xcf")),
        misread=True,
    ),
    ImageFormat(
        "vector graphics",
        (".svg", ".svgz", ".eps", ".ai"),
        "Render as PNG",
        ((0, b"<svg"), (0, b"%!PS"), (0, b"\xc5\xd0\xd3\xc6")),
        misread=True,
    ),
    ImageFormat(
        "high dynamic range",
        (".exr", ".hdr"),
        "Map the tones to 8 bits and save as PNG, or pass arrays",
        ((0, b"v/1\x01"), (0, b"#?RADIANCE"), (0, b"#?RGBE")),
    ),
    ImageFormat(
        "DICOM", (".dcm", ".dicom"), "Choose a window of values and save as PNG, or pass arrays", ((128, b"DICM"),)
    ),
)
"""In the order in which messages name them."""

_BY_SUFFIX = {suffix: format for format in FORMATS for suffix in format.suffixes}


def by_suffix(path: Path) -> ImageFormat | None:
    """The format that the name of a file stands for; None if segzoo reads it by itself, or it is no image."""
    return _BY_SUFFIX.get(path.suffix.lower())


def by_content(start: bytes) -> ImageFormat | None:
    """The format of a file that starts with these bytes, 132 or more; None if it is none of `FORMATS`."""
    for format in FORMATS:
        if any(start[offset:].startswith(signature) for offset, signature in format.signatures):
            return format
    return None


def describe_skipped(paths: Iterable[Path]) -> str:
    """Sentences about images that are left out, for each format a few names, the number and what to do; "" for none."""
    names: dict[str, list[str]] = {}
    for path in paths:
        format = _BY_SUFFIX[path.suffix.lower()]
        names.setdefault(format.name, []).append(path.name)
    sentences = []
    for format in FORMATS:
        if skipped := names.get(format.name):
            count = "1 file" if len(skipped) == 1 else f"{len(skipped):,} files"
            sentences.append(
                f"Skipped {count} in a format that segzoo does not read ({format.name}): {some(sorted(skipped), 3)}. "
                f"{format.remedy}."
            )
    return " ".join(sentences)


@functools.cache
def _load_plugin(module: str, register: str) -> None:
    """Registers a plugin of Pillow if it is installed; once, because looking for a missing module takes a while."""
    try:
        plugin = importlib.import_module(module)
        if register:
            getattr(plugin, register)()
    except Exception:  # not installed, or built for another Pillow: the format is then reported as one that is not read
        return
