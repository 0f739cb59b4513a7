"""The cache folder for downloads, and the settings that forbid the network.

`SEGZOO_CACHE` names the folder. If it is not set, the platform's own cache folder is used.
"""

import hashlib
import os
import re
from pathlib import Path

import platformdirs

_TRUE = ("1", "on", "true", "yes")


def folder() -> Path:
    """The cache folder: segzoo's downloads are in weights/, those of huggingface_hub in hub/."""
    chosen = os.environ.get("SEGZOO_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("segmentation-zoo", appauthor=False)


def path_for(name: str, sha256: str) -> Path:
    """The path in the cache of the file with this name and sha256.

    Args:
        name: the last part of a URL or path. Only its letters, digits, underscores, dots and dashes are kept.
    """
    safe = re.sub(r"[^\w.-]", "_", name.rpartition("/")[2], flags=re.ASCII).lstrip(".")[-100:] or "file"
    stem, dot, suffix = safe.rpartition(".")
    # The sha256 distinguishes files of the same name: every other repository has a model.safetensors.
    return folder() / "weights" / (f"{stem}-{sha256[:16]}.{suffix}" if stem and dot else f"{safe}-{sha256[:16]}")


def offline() -> str | None:
    """The setting that forbids the network, such as "SEGZOO_OFFLINE=1"; None if the network may be used."""
    for name in ("SEGZOO_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").strip().lower() in _TRUE:
            return f"{name}={os.environ[name]}"
    return None


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
