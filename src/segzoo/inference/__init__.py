"""Predicts masks, with torch or without it.

    from segzoo.inference import Predictor
    result = Predictor("street.onnx", device="cuda").predict("street.jpg")

Names are loaded on first use, so a program that only needs the type of a result works without onnxruntime.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segzoo.inference.backends.base import Backend, EngineOptions
    from segzoo.inference.backends.onnxruntime.backend import OnnxBackend
    from segzoo.inference.backends.onnxruntime.diagnosis import Report, doctor
    from segzoo.inference.backends.torch import TorchBackend
    from segzoo.inference.options import PredictOptions
    from segzoo.inference.predictor import Predictor
    from segzoo.inference.result import Segmentation

_MODULES = {
    "Backend": "segzoo.inference.backends.base",
    "EngineOptions": "segzoo.inference.backends.base",
    "OnnxBackend": "segzoo.inference.backends.onnxruntime.backend",
    "PredictOptions": "segzoo.inference.options",
    "Predictor": "segzoo.inference.predictor",
    "Report": "segzoo.inference.backends.onnxruntime.diagnosis",
    "Segmentation": "segzoo.inference.result",
    "TorchBackend": "segzoo.inference.backends.torch",
    "doctor": "segzoo.inference.backends.onnxruntime.diagnosis",
}

__all__ = [
    "Backend",
    "EngineOptions",
    "OnnxBackend",
    "PredictOptions",
    "Predictor",
    "Report",
    "Segmentation",
    "TorchBackend",
    "doctor",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        from segzoo._optional import needs

        with needs(f"segzoo.inference.{name}"):
            module = importlib.import_module(_MODULES[name])
        return getattr(module, name)
    raise AttributeError(f"module 'segzoo.inference' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
