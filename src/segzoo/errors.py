"""Errors a user can act on: each message says what is wrong, then what to do.

Every error that segzoo raises on purpose derives from `SegzooError`, so that one `except` catches them all. The command
line prints them as one line without a traceback.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, marks that reorder or break lines, and lone surrogates, which no terminal can
show."""

_MAX_MESSAGE = 4000
"""Characters of a message. Messages quote other libraries, which quote whatever a file contains."""

_MAX_VALUE = 120
"""Characters of a value in a message: longer than the names of tensors and layers in real files."""


class SegzooError(Exception):
    """Base class of every error that segzoo raises on purpose.

    Control characters in its message are escaped, and of a message longer than 4,000 characters the middle is left out.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*(_shortened(printable(arg), _MAX_MESSAGE) if isinstance(arg, str) else arg for arg in args))


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


class MissingPackageError(SegzooError, ModuleNotFoundError):
    """Something needs a package that is not installed; the message says how to install it."""


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
    hint = did_you_mean(similar(name, known))
    return UnknownNameError(f"Unknown {what} {quoted(name)}.{hint} {see}")


def similar(name: str, known: Iterable[str]) -> list[str]:
    """Up to three of the `known` names that are similar to `name`, whatever their case, the most similar first."""
    by_lower: dict[str, str] = {}
    for word in known:
        by_lower.setdefault(word.lower(), word)
    # difflib takes quadratic time, and a file may hold a name of a million characters.
    matches = difflib.get_close_matches(name.lower()[:_MAX_VALUE], by_lower, n=3, cutoff=0.6)
    return [by_lower[match] for match in matches]


def did_you_mean(names: Sequence[str]) -> str:
    """ " Did you mean 'camvid' or 'pet'?", to be appended to a sentence; empty if there are no names."""
    return f" Did you mean {' or '.join(map(quoted, names))}?" if names else ""


def printable(text: str) -> str:
    """The text with those characters escaped that could change a terminal: files of strangers name their classes."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def shown(value: object, most: int = _MAX_VALUE) -> str:
    """A value from a file for a message: on one line, printable, and without the middle if it is too long."""
    return _shortened(printable(str(value)).replace("\n", "\\n"), most)


def quoted(value: object, most: int = _MAX_VALUE) -> str:
    """The `repr` of a value as `shown` does it; only its type if `repr` fails, as of an integer of 5,000 digits."""
    try:
        return shown(repr(value), most)
    except Exception:  # whatever the value's class raises
        return f"a {type(value).__name__}"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first `most` names and the number of the others, for messages."""
    return ", ".join(map(shown, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end]}... ({len(text):,} characters) ...{text[-end:]}"
