"""Keeps onnxruntime from sending usage data, unless the user has decided about that.

From 1.29 on, the published builds of onnxruntime send usage data. The import alone writes a random device id and a
database of events to the user's cache and a file to the temporary folder, and a thread uploads the events.
ORT_DISABLE_TELEMETRY=1 prevents all of it, if it is set before the import. Afterwards, `disable_telemetry_events` stops
all events but the first.
"""

import os
import sys
from typing import Any

VARIABLE = "ORT_DISABLE_TELEMETRY"

_TRUE = ("1", "true", "yes", "on")
"""The values with which users turn it off, in any case."""

_status = ""


def switch_off() -> None:
    """Sets the variable, unless the user has set it, to whatever value. Called before onnxruntime is imported."""
    global _status
    if _status:  # a second attempt, after onnxruntime could not be imported
        return
    if VARIABLE in os.environ:
        _status = "set by the user"
        return
    _status = "too late" if "onnxruntime" in sys.modules else "off"
    os.environ[VARIABLE] = "1"  # processes that this one starts inherit it


def switch_off_late(onnxruntime: Any) -> None:
    """Stops the remaining events if other code imported onnxruntime before segzoo could set the variable."""
    if _status == "too late" or os.environ[VARIABLE].strip().lower() in _TRUE:  # which may have been set too late
        onnxruntime.disable_telemetry_events()


def issue() -> str | None:
    """What onnxruntime may have done already, with a remedy; None if segzoo was in time, or the user decides."""
    if _status != "too late":
        return None
    return (
        f"Other code imported onnxruntime before segzoo, while {VARIABLE} was not set. From 1.29 on, onnxruntime then "
        "writes a device id to the user's cache and sends one event that describes this machine. segzoo has switched "
        f"off all further events. Set {VARIABLE}=1 before the program starts."
    )


def report() -> str:
    """The variable's value, and who set it."""
    return f"{VARIABLE}={os.environ.get(VARIABLE)}" + (", set by segzoo" if _status in ("off", "too late") else "")
