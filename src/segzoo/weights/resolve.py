"""Resolves what a user names (a catalog key, a path, an https URL, or hf://owner/repo) to a file on this machine."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from segzoo._arguments import explained
from segzoo._io import similar_paths
from segzoo._registry import DECODERS, PAPERS
from segzoo.errors import CheckpointError, DownloadError, OptionError, did_you_mean, shown, unknown
from segzoo.weights import cache, download, hub
from segzoo.weights.catalog import Entry, entries


@dataclass(frozen=True)
class Located:
    """A weights file on this machine."""

    path: Path
    format: str = "segzoo"
    """Format of the file: one of `segzoo.weights.catalog.Format`."""

    entry: Entry | None = None
    """Its catalog entry; None if it was not named by a key."""

    @property
    def name(self) -> str:
        """The name under which commands accept it: its key or its path."""
        return str(self.path) if self.entry is None else self.entry.key


Meaning = Literal["path", "key", "hub", "url", "architecture", "unknown"]
"""What a word that names a model can be."""

FOREIGN_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".caffemodel")
"""What the names of other programs' weights end in."""

WEIGHTS_SUFFIXES = (".safetensors", *FOREIGN_SUFFIXES)
"""What the name of a file of weights ends in."""

OWN_SUFFIXES = (".safetensors", ".onnx")
"""What the names of the files that segzoo writes end in."""

SUFFIXES = (*OWN_SUFFIXES, *FOREIGN_SUFFIXES)
"""What the name of a model file ends in."""

_PROGRAMS = {
    "ONNX Runtime's ORT format": (".ort",),
    "TensorRT": (".trt", ".engine", ".plan"),
    "TensorFlow Lite": (".tflite",),
    "TensorFlow or Keras": (".pb", ".h5", ".keras"),
    "Core ML": (".mlmodel", ".mlpackage", ".mlmodelc"),
    "OpenVINO": (".xml",),
    "TorchScript or torch.export": (".pt2", ".ptl", ".torchscript"),
    "ExecuTorch": (".pte",),
    "PaddlePaddle": (".pdmodel", ".pdparams", ".pdiparams"),
    "Darknet": (".weights",),
    "Caffe": (".prototxt",),
    "ncnn": (".param", ".ncnn"),
    "MNN": (".mnn",),
    "RKNN": (".rknn",),
    "Hailo": (".hef",),
}

OTHER_PROGRAMS = {suffix: program for program, suffixes in _PROGRAMS.items() for suffix in suffixes}
"""What the names of models end in that segzoo neither reads nor converts, and whose they are."""


def foreign(path: Path) -> str | None:
    """What a model file of another program is, and what to do with it; None if its name ends in no such suffix."""
    suffix = path.suffix.lower()
    if suffix in FOREIGN_SUFFIXES:
        return (
            f"{path} was not written by segzoo.save. If it holds torchvision's FCN, segmentation-models-pytorch's Unet "
            f"or one of the original Caffe networks, `segzoo convert {path} -o model.safetensors`, or in Python "
            f"segzoo.convert({str(path)!r}), converts it. Pass encoder weights to segzoo.create as encoder_weights=."
        )
    if suffix in OTHER_PROGRAMS:
        return (
            f"{path} is a model for {OTHER_PROGRAMS[suffix]}, which segzoo does not run. Export the model that it was "
            "made from with `segzoo export`, or in Python with segzoo.export, and pass the .onnx file."
        )
    return None


def resolve(word: str | os.PathLike[str]) -> Meaning:
    """What a word means wherever a model is named, in Python and on the command line.

    A `Path` is a path; "hf://..." is "hub", any other scheme "url"; a key of the catalog is a key, even if there is a
    path of that name. Existing paths, and words with the suffix of a model file, are paths; what remains may be an
    architecture, which has no weights. Nothing is downloaded.
    """
    if isinstance(word, os.PathLike):
        return "path"
    # Only "://" marks a scheme: a Windows path has a colon after its drive letter.
    scheme, separator, _ = word.partition("://")
    if separator:
        return "hub" if scheme == "hf" else "url"
    if word in entries():
        return "key"
    if Path(word).suffix.lower() in SUFFIXES or Path(word).exists():
        return "path"
    return "architecture" if word in DECODERS or word in PAPERS else "unknown"


def looks_like_key(word: str | os.PathLike[str]) -> bool:
    """Whether a word is a key of the catalog, or is spelled like one, decoder/encoder/data, and names no path.

    `locate` suggests similar keys for it.
    """
    if not isinstance(word, str):
        return False
    return word in entries() or (re.fullmatch(_KEY, word) is not None and not Path(word).exists())


_KEY = r"[^/\\:]+/[^/\\]+/[^/\\.]+"


@explained
def locate(source: str | os.PathLike[str], sha256: str | None = None, *, exported: bool = False) -> Located:
    """The file that `source` names, downloaded into the cache if it is not on this machine.

    Args:
        source: a catalog key, the path of a file or of a folder that `segzoo.save` wrote, an https URL, or
            "hf://owner/repo[@revision][/file]". A `Path` is always a path, even if it spells a key.
        sha256: of the whole file, 64 hexadecimal digits. A URL requires it, here or as "URL#sha256=..."; any other file
            is compared with it.
        exported: of a catalog key whose model ships as an .onnx file too, that file: it runs without torch.

    Raises:
        OptionError: a URL without sha256, an invalid sha256, or an unknown scheme.
        DownloadError: the file cannot be downloaded.
        CheckpointError: there is no such file (similar ones are suggested), or it has another sha256.
        UnknownNameError: `source` is neither a path nor a catalog key; similar keys are suggested.
    """
    if not isinstance(source, str | os.PathLike):
        raise OptionError(f"segzoo.load takes a catalog key, a path or a URL, not {source!r}.")
    if not os.fspath(source):
        raise OptionError("The name of the model is empty. Pass a catalog key, a path or a URL.")
    if sha256 is not None:
        if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
            raise OptionError(f"sha256 must be 64 hexadecimal digits, not {sha256!r}.")
        sha256 = sha256.lower()
    meaning = resolve(source)
    if meaning == "url":
        scheme = str(source).partition("://")[0]
        if scheme not in ("https", "http"):
            raise OptionError(f"segzoo.load reads https:// and hf://, not {scheme}://. Download it and pass its path.")
        source, sha256 = _split(str(source), sha256)
        return Located(_download(str(source), sha256))
    located = _find(source, meaning, exported)
    if sha256 is not None and _sha256_of(located.path) != sha256:
        raise CheckpointError(f"{located.path} does not have the sha256 {sha256}. Nothing was loaded.")
    return located


def _find(source: str | os.PathLike[str], meaning: Meaning, exported: bool) -> Located:
    if meaning == "hub":
        return Located(hub.fetch(hub.parse(str(source))))
    if meaning == "key":
        return _from_entry(entries()[str(source)], exported)
    if meaning == "path":
        return Located(_path(Path(source)))
    raise _unknown_source(str(source), meaning)


def _path(path: Path) -> Path:
    """The path itself; for a folder, the file that `segzoo.save` wrote into it."""
    inside = path / hub.FILE
    return inside if inside.is_file() else path


def _split(url: str, sha256: str | None) -> tuple[str, str | None]:
    """A URL without its fragment, and the sha256 in the fragment, in the syntax of pip and package indexes."""
    bare, _, fragment = url.partition("#")
    if not fragment:
        return bare, sha256
    match = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if match is None:
        raise OptionError(f"After #, {url} must have sha256= and 64 hexadecimal digits, and nothing else.")
    if sha256 not in (None, match[1].lower()):
        raise OptionError(f"{url} states another sha256 than sha256={sha256}. Pass only one of the two.")
    return bare, match[1].lower()


def _download(url: str, sha256: str | None) -> Path:
    if sha256 is None:
        raise OptionError(
            f"{url} needs sha256=, the file's 64 digits (or {url}#sha256=...), so that the file can be verified. Its "
            "publisher states the digits; for a file that you trust, `sha256sum FILE` prints them."
        )
    return download.fetch([url], sha256, name=unquote(urlsplit(url).path))


def _from_entry(entry: Entry, exported: bool) -> Located:
    if exported and entry.exported is not None:
        path = entry.exported.path
        _check_sha256(path, entry.exported.sha256, "Reinstall segmentation-zoo-runtime.")
        return Located(path, "segzoo", entry)
    if entry.source == "web":
        path = download.fetch(entry.urls, entry.sha256, name=entry.file, size=entry.size)
        return Located(path, entry.format, entry)
    local_path = entry.local_path
    if local_path is None:
        raise DownloadError(_missing(entry))
    remedy = "Reinstall segmentation-zoo." if entry.source == "package" else "Check it out or copy it again."
    _check_sha256(local_path, entry.sha256, remedy)
    return Located(local_path, entry.format, entry)


def _check_sha256(path: Path, sha256: str, remedy: str) -> None:
    if not path.is_file():
        raise DownloadError(f"{path.name}, which ships with segzoo, is missing. {remedy}")
    if cache.sha256_of(path) != sha256:
        raise DownloadError(f"{path} does not have the catalog's sha256: damaged, or another file. {remedy}")


def _missing(entry: Entry) -> str:
    if entry.source == "package":
        return f"{entry.file} is missing. It ships with segmentation-zoo: install or reinstall that."
    return (
        f"{entry.file} is in the folder weights/ of segzoo's repository. It does not ship with the package and has no "
        f"URL yet. Copy it from a clone to {cache.path_for(entry.file, entry.sha256)}, or load it from there by path."
    )


def _sha256_of(path: Path) -> str:
    try:
        return cache.sha256_of(path)
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.") from error


def _unknown_source(source: str, meaning: Meaning) -> Exception:
    saved = Path(f"{source}.safetensors")
    if saved.is_file():
        return CheckpointError(f"No file {source}, but there is {saved}. Pass that path.")
    if Path(source).suffix and not looks_like_key(source):
        similar = did_you_mean(similar_paths(Path(source)))
        return CheckpointError(f"There is no file {shown(source)}.{similar} Models end in .onnx or .safetensors.")
    hint = "`segzoo list --weights` shows the catalog; a file's path ends in .safetensors."
    if meaning == "architecture":
        hint = f"{source!r} is an architecture without weights: segzoo.create({source!r}) builds it. {hint}"
    return unknown("weights", source, entries(), hint)
