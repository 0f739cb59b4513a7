"""Imports of what need not be installed: extras, and everything that segmentation-zoo adds to its runtime."""

from collections.abc import Iterator
from contextlib import contextmanager

from segzoo.errors import MissingPackageError

WHOLE = "segmentation-zoo"
"""The distribution with everything that needs torch."""

TRAIN = "segmentation-zoo[train]"
CRF = "segmentation-zoo-runtime[crf]"
HUB = "segmentation-zoo-runtime[hub]"
VIDEO = "segmentation-zoo-runtime[video]"
"""Extras, as `pip install` takes them."""


@contextmanager
def needs(feature: str, install: str = WHOLE) -> Iterator[None]:
    """Wraps imports that fail if something is not installed.

    Args:
        feature: what needs the imports, as the subject of a sentence.
        install: what to pass to `pip install`.

    Raises:
        MissingPackageError: a module is missing; the message says what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if isinstance(error, MissingPackageError):
            raise
        package = (error.name or "").partition(".")[0]
        missing = f"PyTorch and the whole of {WHOLE}" if package == "segzoo" else f"{package}, which is not installed"
        quotes = '"' if "[" in install else ""  # shells expand brackets
        raise MissingPackageError(f"{feature} needs {missing}. Run: pip install {quotes}{install}{quotes}") from None
