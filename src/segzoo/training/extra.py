"""Imports of the packages in the extra "train"."""

from collections.abc import Iterator
from contextlib import contextmanager

from segzoo.errors import TrainingError


@contextmanager
def extra(feature: str) -> Iterator[None]:
    """Wraps imports of packages that the extra "train" installs.

    Args:
        feature: what needs them, as the subject of a sentence.

    Raises:
        TrainingError: a package is missing; the message names it and the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise TrainingError(
            f"{feature} needs {error.name}, which is not installed. Run: pip install 'segmentation-zoo[train]'"
        ) from None
