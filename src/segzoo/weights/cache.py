"""The one folder where fetched files are kept, and whether the network may be used.

Floor 0. `SEGZOO_CACHE` names the folder; without it, it is where the platform keeps caches.
"""

import hashlib
import os
import re
from pathlib import Path

import platformdirs

_TRUE = ("1", "on", "true", "yes")


def folder() -> Path:
    """Where fetched files are kept: weights/ by segzoo, hub/ by huggingface_hub."""
    chosen = os.environ.get("SEGZOO_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("segmentation-zoo", appauthor=False)


def place(name: str, sha256: str) -> Path:
    """Where the file of this name and sha256 is kept.

    Args:
        name: as in a URL; nothing but its letters, digits, dots and dashes is used.
    """
    safe = re.sub(r"[^\w.-]", "_", name.rpartition("/")[2], flags=re.ASCII).lstrip(".")[-100:] or "file"
    stem, dot, suffix = safe.rpartition(".")
    # The sha256 keeps apart two files of one name: model.safetensors is what every other repository holds.
    return folder() / "weights" / (f"{stem}-{sha256[:16]}.{suffix}" if stem and dot else f"{safe}-{sha256[:16]}")


def offline() -> str | None:
    """The setting that forbids the network, such as "SEGZOO_OFFLINE=1"; None where there is none."""
    for name in ("SEGZOO_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").strip().lower() in _TRUE:
            return f"{name}={os.environ[name]}"
    return None


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
