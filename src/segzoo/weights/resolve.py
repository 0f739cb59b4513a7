"""Where the file is that a user names: a catalog key, a path, an https URL, or hf://owner/repo.

Floor 0. Each becomes the path of a file on this machine, and how that file is to be read.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from segzoo.errors import CheckpointError, DownloadError, OptionError, unknown
from segzoo.weights import cache, download, hub
from segzoo.weights.catalog import Entry, entries


@dataclass(frozen=True)
class Located:
    """A file of weights on this machine."""

    path: Path
    format: str = "segzoo"
    """How it is read: one of `segzoo.weights.catalog.FORMATS`."""

    entry: Entry | None = None
    """What the catalog says of it."""

    @property
    def name(self) -> str:
        """What commands take for it: its key, or its path."""
        return str(self.path) if self.entry is None else self.entry.key


def locate(source: str | os.PathLike[str], sha256: str | None = None) -> Located:
    """The file that `source` names, fetched into the cache where it is not on this machine.

    Args:
        source: a catalog key, the path of a file or of a folder that `segzoo.save` wrote, an https URL, or
            "hf://owner/repo[@revision][/file]". A path object is always a path, also where a key has the same letters.
        sha256: of the whole file, 64 hexadecimal digits; a URL needs it, here or as "URL#sha256=...", and anything else
            is compared with it.

    Raises:
        OptionError: no sha256 for a URL, or one that cannot be; an unknown scheme.
        DownloadError: it cannot be fetched.
        CheckpointError: there is no such file, or it has another sha256.
        UnknownNameError: neither a file nor a key of the catalog; near keys are suggested.
    """
    if not isinstance(source, str | os.PathLike):
        raise OptionError(f"segzoo.load takes a key of the catalog, a path or a URL, not {source!r}.")
    if sha256 is not None:
        if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
            raise OptionError(f"sha256 is 64 hexadecimal digits, not {sha256!r}.")
        sha256 = sha256.lower()
    # A path of Windows begins with a letter and a colon.
    scheme = source.partition("://")[0] if isinstance(source, str) and "://" in source else None
    if scheme in ("https", "http"):
        source, sha256 = _split(str(source), sha256)
        return Located(_fetched(str(source), sha256))
    found = _find(source, scheme)
    if sha256 is not None and _sha256_of(found.path) != sha256:
        raise CheckpointError(f"{found.path} has not the sha256 {sha256}: it is another file. Nothing was loaded.")
    return found


def _find(source: str | os.PathLike[str], scheme: str | None) -> Located:
    if isinstance(source, os.PathLike):
        return Located(_path(Path(source)))
    if scheme == "hf":
        return Located(hub.fetch(hub.parse(source)))
    if scheme is not None:
        raise OptionError(f"segzoo.load reads https:// and hf://, not {scheme}://. Fetch {source} and pass its path.")
    if source in entries():
        return _of_entry(entries()[source])
    path = Path(source)
    if not path.exists() and path.suffix not in (".safetensors", ".pth", ".pt", ".bin", ".onnx"):
        raise _neither(source)
    return Located(_path(path))


def _path(path: Path) -> Path:
    """A folder stands for the file that `segzoo.save` put into it."""
    inside = path / hub.FILE
    return inside if inside.is_file() else path


def _split(url: str, sha256: str | None) -> tuple[str, str | None]:
    """A URL without its fragment, and the sha256 that the fragment says, as pip and package indexes write it."""
    bare, _, fragment = url.partition("#")
    if not fragment:
        return bare, sha256
    found = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if found is None:
        raise OptionError(f"What follows # in {url} is sha256= and 64 hexadecimal digits, and nothing else.")
    if sha256 not in (None, found[1].lower()):
        raise OptionError(f"{url} says another sha256 than sha256={sha256}.")
    return bare, found[1].lower()


def _fetched(url: str, sha256: str | None) -> Path:
    if sha256 is None:
        raise OptionError(
            f"{url} needs sha256=, the file's 64 digits (or {url}#sha256=...), so that it can be told from another. "
            "Whoever publishes it states them; for a file that you trust, `sha256sum FILE` prints them."
        )
    return download.fetch([url], sha256, name=unquote(urlsplit(url).path))


def _of_entry(entry: Entry) -> Located:
    if entry.place == "web":
        path = download.fetch(entry.urls, entry.sha256, name=entry.file, size=entry.size)
        return Located(path, entry.format, entry)
    here = entry.here
    if here is None:
        raise DownloadError(_missing(entry))
    if cache.sha256_of(here) != entry.sha256:
        how = "Install segzoo again." if entry.place == "package" else "Check it out, or copy it, again."
        raise DownloadError(f"{here} is not the file that the catalog names: it is damaged, or another. {how}")
    return Located(here, entry.format, entry)


def _missing(entry: Entry) -> str:
    if entry.place == "package":
        return f"{entry.file}, which ships with segzoo, is missing. Install segzoo again."
    return (
        f"{entry.file} is in the folder weights/ of segzoo's repository, and not in what is installed; it has no URL "
        f"yet. Copy it from a clone to {cache.place(entry.file, entry.sha256)}, or load it by its path there."
    )


def _sha256_of(path: Path) -> str:
    try:
        return cache.sha256_of(path)
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.") from error


def _neither(source: str) -> Exception:
    saved = Path(f"{source}.safetensors")
    if saved.is_file():
        return CheckpointError(f"No file {source}, but there is {saved}. Pass that.")
    return unknown(
        "weights", source, entries(), "`segzoo list --weights` shows the catalog; a file's path ends in .safetensors."
    )
