"""Names of devices, and why one is used or unavailable; the same for every engine, and without importing any."""

import re
from dataclasses import dataclass

from segzoo.errors import OptionError, quoted, unknown

GPU_TYPES = ["cuda", "tensorrt"]
"""Types of device that have an index. `register_provider` adds its own."""


@dataclass(frozen=True)
class DeviceIssue:
    """Why CUDA is unavailable (a clause to follow "because"), and what to do about it (complete sentences)."""

    reason: str
    remedy: str


def parse(device: str) -> tuple[str, int]:
    """Splits a device into type and GPU index: "cuda:1" into ("cuda", 1), "tensorrt" into ("tensorrt", 0).

    Raises:
        OptionError: `device` is not a string.
        UnknownNameError: it is none of "auto", "cpu", and a type of GPU with or without an index.
    """
    if not _is_string(device):
        raise OptionError(f"device must be a string such as 'cpu' or 'cuda:0', not {quoted(device)}.")
    names = "|".join(map(re.escape, GPU_TYPES))
    match = re.fullmatch(rf"(auto|cpu|{names})|({names}):([0-9]{{1,3}})", device)
    if match is None:
        known = ["auto", "cpu", *(f"{name}{index}" for name in GPU_TYPES for index in ("", ":0"))]
        others = "".join(f", {name!r} or '{name}:N'" for name in GPU_TYPES)
        raise unknown("device", device, known, f"A device is 'auto', 'cpu'{others}, such as 'cuda:1'.")
    return match[1] or match[2], int(match[3] or 0)


def explain(device: str, requested: str, issue: str | None = None) -> str:
    """A sentence that says why `device` is used. `issue` is why a GPU cannot be."""
    if issue is not None:
        return f"Running on the CPU, because {issue}."
    cause = (
        "device='auto' uses the first GPU that works" if requested == "auto" else f"device={requested!r} was requested"
    )
    return f"Running on {device}, because {cause}."


def _is_string(value: object) -> bool:
    return isinstance(value, str)
