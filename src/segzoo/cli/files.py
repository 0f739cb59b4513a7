"""Model files: which arguments name one, finding it, and naming the files made from it."""

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from segzoo._io import similar_paths
from segzoo.cli import console
from segzoo.errors import CheckpointError, did_you_mean
from segzoo.weights.hub import FILE
from segzoo.weights.resolve import OTHER_PROGRAMS, OWN_SUFFIXES, SUFFIXES, Located, foreign, locate, resolve


def is_path(name: str) -> bool:
    """Whether an argument is the path of a file, rather than a decoder or an encoder."""
    path = Path(name)
    suffix = path.suffix.lower()
    return suffix in (*SUFFIXES, *OTHER_PROGRAMS, *_engine_suffixes()) or (suffix != "" and path.is_file())


def is_key_or_url(name: str) -> bool:
    """Whether an argument is a catalog key, hf://owner/repo or https://..."""
    return resolve(name) in ("key", "hub", "url")


def is_model(name: str) -> bool:
    """Whether an argument must be a model and not an image.

    It is a key, a URL, a folder of segzoo.save, or has the suffix of a file that an engine opens.
    """
    return is_key_or_url(name) or _opens(Path(name)) or Path(name, FILE).is_file()


def refuse_foreign(name: str) -> None:
    """Raises CheckpointError if an argument has the suffix of another program's model, which no image has."""
    path = Path(name)
    if not is_key_or_url(name) and not _opens(path) and foreign(path) is not None:
        require_model_file(path)


def refuse_model(image: Path) -> None:
    """Raises CheckpointError if the argument for an image is the path of a model."""
    refuse_foreign(str(image))
    if _opens(image):
        raise CheckpointError(f"{image} is a model. `segzoo predict {image} IMAGE` runs it.")


def _opens(path: Path) -> bool:
    """Whether an engine opens files with the suffix of this one."""
    return path.suffix.lower() in (*OWN_SUFFIXES, *_engine_suffixes())


def _engine_suffixes() -> list[str]:
    """The suffixes of all engines, those of plugins included."""
    from segzoo.inference.backends import ENGINES

    return [suffix for engine in ENGINES.values() for suffix in engine.suffixes]


def find(name: str, *, exported: bool = False) -> Located:
    """The model file that an argument names, downloaded into the cache if necessary.

    Args:
        name: the path of a .safetensors or .onnx file or of a folder that segzoo.save wrote; a catalog key;
            hf://owner/repo[@revision][/file]; or https://...#sha256=...
        exported: of a key whose model ships as an .onnx file too, that file.

    Raises:
        CheckpointError: there is no such file, or it has another format.
        UnknownNameError: neither a file nor a key; similar keys are suggested.
        DownloadError, OptionError: the download failed; a URL has no sha256.
    """
    located = locate(name, exported=exported)
    if located.format == "segzoo":
        require_model_file(located.path)
    return located


def images(path: Path) -> list[Path]:
    """The images at a path, as `segzoo.data.images.list_images`; a note names those that are left out."""
    from segzoo.data.images import scan

    found, skipped = scan(path)
    if skipped:
        console.note(f"{console.display_path(path)}: {skipped}")
    return found


def stem(name: str) -> str:
    """The file name, without a suffix, for files made from a model."""
    scheme, separator, rest = name.partition("://")
    if separator and scheme != "hf":
        return Path(unquote(urlsplit(name).path)).stem
    if is_key_or_url(name):
        return (rest if separator else name).removesuffix(".safetensors").partition("@")[0].replace("/", "-")
    return Path(name).stem


def safe_name(name: str) -> str:
    """The name with only those characters that every file system and Triton accept."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("-.") or "model"


def onnx_name(name: str) -> str:
    """The file name that `segzoo export` gives a model by default."""
    return f"{Path(name).stem if is_path(name) and not is_key_or_url(name) else safe_name(stem(name))}.onnx"


def require_model_file(path: Path) -> Path:
    """The path, if it is an existing file that segzoo wrote or that an engine opens.

    Raises:
        CheckpointError: there is no such file, or it has another suffix.
    """
    if not path.exists():
        hint = did_you_mean(similar_paths(path))
        raise CheckpointError(
            f"There is no file {path}.{hint} `segzoo export` writes .onnx files, segzoo.save .safetensors."
        )
    if not _opens(path) and (advice := foreign(path)) is not None:
        raise CheckpointError(advice)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder. Pass a .safetensors or .onnx file that segzoo wrote.")
    if not path.is_file():
        raise CheckpointError(f"{path} is no regular file. Pass the path of a file that segzoo wrote.")
    if not _opens(path):
        raise CheckpointError(f"{path} is neither a .safetensors nor an .onnx file. Pass one that segzoo wrote.")
    return path


def sha256(path: Path) -> str:
    """The file's checksum, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
