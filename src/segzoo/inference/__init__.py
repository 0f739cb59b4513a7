"""Runs exported models, without torch.

    from segzoo.inference import Session
    mask = Session("street.onnx", device="cuda").predict("street.jpg")

Names are loaded on first use, so a program that only needs the type of a result works without onnxruntime.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segzoo.inference.backends.onnxruntime.diagnosis import Report, doctor
    from segzoo.inference.session import Session
    from segzoo.inference.stream import Result

_MODULES = {
    "Report": "segzoo.inference.backends.onnxruntime.diagnosis",
    "Result": "segzoo.inference.stream",
    "Session": "segzoo.inference.session",
    "doctor": "segzoo.inference.backends.onnxruntime.diagnosis",
}

__all__ = ["Report", "Result", "Session", "doctor"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'segzoo.inference' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
