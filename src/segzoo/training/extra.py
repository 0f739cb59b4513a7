"""What the extra "train" brings, and what to say where it is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from segzoo.errors import TrainingError


@contextmanager
def extra(what: str) -> Iterator[None]:
    """Around imports of what the extra "train" installs.

    Args:
        what: what it is needed for, as the subject of a sentence.

    Raises:
        TrainingError: a module is missing; the message names it and the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"{what} needs {error.name}, which is not installed: `pip install 'segmentation-zoo[train]'`."
        ) from None
