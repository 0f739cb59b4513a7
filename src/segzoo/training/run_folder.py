"""Checks a run's output folder. It imports no torch, so that a command can refuse a folder without loading it."""

from pathlib import Path

from segzoo.errors import TrainingError

RESUME = "resume.pt"
"""The file that a run resumes from."""


def check_free(folder: Path, resume: bool) -> None:
    """Checks that no run would be overwritten.

    Raises:
        TrainingError: the folder contains a run and `resume` is False, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file. Name a folder for the run.")
    if (folder / RESUME).exists() and not resume:
        raise TrainingError(
            f"{folder} holds a run already. Resume it (resume=True, --resume), or choose another folder."
        )
