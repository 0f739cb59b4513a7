"""Errors a user can act on: each message says what is wrong, then what to do.

Every error that segzoo raises on purpose derives from `SegzooError`, so that one `except` catches them all. The command
line prints them as one line without a traceback.
"""

import difflib
from collections.abc import Iterable


class SegzooError(Exception):
    """Base class of every error that segzoo raises on purpose."""


class UnknownNameError(SegzooError, ValueError):
    """An unknown name: of an encoder, a decoder, an option, a class set."""


class OptionError(SegzooError, ValueError):
    """An argument or a configuration value that is not allowed."""


class PairingError(SegzooError, ValueError):
    """An encoder and a decoder (or an output stride) that do not work together."""


class ImageError(SegzooError, ValueError):
    """An image file or array that cannot be read, or that the model does not accept."""


class DataError(SegzooError, ValueError):
    """A missing data set, or a mask that does not match its image or its class set."""


class CheckpointError(SegzooError):
    """A weights file that is truncated, in an unknown format, or does not fit the model."""


class DownloadError(SegzooError):
    """Weights could not be downloaded."""


class UploadError(SegzooError):
    """A model could not be pushed to the hub."""


class ExportError(SegzooError):
    """A model could not be exported to an .onnx file that is verified to match it."""


class TrainingError(SegzooError):
    """Training failed to start or resume, or diverged."""


class DeviceError(SegzooError):
    """The requested device is unavailable, or a model failed on it."""


def unknown(what: str, name: str, known: Iterable[str], see: str) -> UnknownNameError:
    """The error for a name that is not in `known`; it suggests up to three similar names.

    Args:
        what: what the name stands for, such as "encoder".
        name: what the user wrote.
        known: all valid names. Only similar ones are shown, since there may be 1,300.
        see: a complete sentence that says which names are valid, or where they are listed.
    """
    similar = difflib.get_close_matches(name.lower(), list(dict.fromkeys(known)), n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""
    return UnknownNameError(f"Unknown {what} {name!r}.{hint} {see}")
