"""Errors a user can act on: each message says what is wrong, then what to do.

Floor 0. Every error that segzoo raises on purpose derives from `SegzooError`, so that one `except` is enough, and the
command line turns it into one line without a traceback.
"""

import difflib
from collections.abc import Iterable


class SegzooError(Exception):
    """Base of everything segzoo raises on purpose."""


class UnknownNameError(SegzooError, ValueError):
    """A name (encoder, decoder, option, label set) that segzoo does not know."""


class OptionError(SegzooError, ValueError):
    """A value that an argument cannot take."""


class PairingError(SegzooError, ValueError):
    """An encoder and a decoder (or an output stride) that cannot work together."""


class ImageError(SegzooError, ValueError):
    """An image file or array that cannot be read as pixels of the kind the model takes."""


class DataError(SegzooError, ValueError):
    """A data set that is not where it should be, or a mask that does not fit its image or its label set."""


class CheckpointError(SegzooError):
    """A weights file that is truncated, foreign, or does not fit the model."""


class DownloadError(SegzooError):
    """Weights that could not be fetched."""


class UploadError(SegzooError):
    """A model that could not be pushed to the hub."""


class ExportError(SegzooError):
    """A model that could not be turned into an .onnx file proved equal to it."""


class TrainingError(SegzooError):
    """A run that cannot begin, cannot be gone on with, or has diverged."""


class DeviceError(SegzooError):
    """A device that was asked for and cannot be had."""


def unknown(kind: str, name: str, known: Iterable[str], see: str) -> UnknownNameError:
    """The error for a name that is not in `known`: near names if there are some, then where to look.

    Args:
        kind: what the name stands for, such as "encoder".
        name: what the user wrote.
        known: every right answer; only near ones are shown, since there may be 1,300.
        see: a whole sentence on where the right names are listed.
    """
    near = difflib.get_close_matches(name.lower(), list(dict.fromkeys(known)), n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UnknownNameError(f"Unknown {kind} {name!r}.{hint} {see}")
