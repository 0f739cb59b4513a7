"""Model files: finding the file that a command line argument names, and naming the files made from it."""

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from segzoo.errors import CheckpointError
from segzoo.weights.hub import FILE
from segzoo.weights.resolve import OWN_SUFFIXES, SUFFIXES, Located, locate, resolve


def is_path(name: str) -> bool:
    """Whether an argument is the path of a file, rather than a decoder or an encoder."""
    path = Path(name)
    return path.suffix.lower() in SUFFIXES or (path.suffix != "" and path.is_file())


def is_key_or_url(name: str) -> bool:
    """Whether an argument is a catalog key, hf://owner/repo or https://..."""
    return resolve(name) in ("key", "hub", "url")


def is_model(name: str) -> bool:
    """Whether an argument must be a model and not an image: a key, a URL, a model file, or a folder of segzoo.save."""
    return is_key_or_url(name) or Path(name).suffix.lower() in OWN_SUFFIXES or Path(name, FILE).is_file()


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
    """The path, if it is an existing .safetensors or .onnx file.

    Raises:
        CheckpointError: there is no such file, or it has another suffix.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder. Pass a .safetensors or .onnx file that segzoo wrote.")
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}. `segzoo export` writes .onnx files, segzoo.save .safetensors.")
    if path.suffix.lower() not in OWN_SUFFIXES:
        raise CheckpointError(f"{path} is neither a .safetensors nor an .onnx file. Pass one that segzoo wrote.")
    return path


def sha256(path: Path) -> str:
    """The file's checksum, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
