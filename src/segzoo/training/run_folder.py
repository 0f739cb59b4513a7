"""Whether a run may begin in a folder; known without torch, so that a command need not load it to refuse."""

from pathlib import Path

from segzoo.errors import TrainingError

RESUME = "resume.pt"
"""What a run goes on from."""


def check_free(folder: Path, resume: bool) -> None:
    """Makes sure that no run is overwritten.

    Raises:
        TrainingError: the folder holds a run, and this is not to go on with it; or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file. Name a folder for the run.")
    if (folder / RESUME).exists() and not resume:
        raise TrainingError(
            f"{folder} holds a run already. Go on with it (resume=True, --resume), or choose another folder."
        )
