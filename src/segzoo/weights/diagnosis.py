"""What a file that cannot be read as weights is instead, by how it begins."""

import zipfile
from pathlib import Path

_HEAD = 512


def describe_content(path: Path) -> str | None:
    """A sentence on what the file is and what to do; None if it may be weights, or cannot be opened."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        names = _archived(path) if head.startswith(b"PK\x03\x04") else []
    except Exception:  # of a damaged archive, zipfile raises BadZipFile, UnicodeDecodeError, struct.error and others
        return None
    if not head:
        return f"{path} is empty (0 bytes). Download or copy the file again."
    if head.startswith(b"version https://git-lfs"):
        return f"{path} is a pointer of Git LFS, and not the file. Run `git lfs pull` in its repository."
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return f"{path} is an HTML page, such as a login or an error page. Download the file again, by its direct link."
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        return (
            f"{path} is a TorchScript program, which would run code. If you trust it, save its tensors with "
            f"torch.save(torch.jit.load({str(path)!r}).state_dict(), 'weights.pt'), and pass that file."
        )
    return None


def _archived(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()
