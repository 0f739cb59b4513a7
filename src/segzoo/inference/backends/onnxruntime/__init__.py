"""The onnxruntime backend: sessions, devices, and why a device is unavailable.

Only this file imports onnxruntime, because its telemetry has to be switched off first. All others, tools and benchmarks
too, take it from here:

    from segzoo.inference.backends.onnxruntime import ort
"""

from typing import Any

from segzoo.errors import MissingPackageError
from segzoo.inference.backends.onnxruntime import telemetry

telemetry.switch_off()
try:
    import onnxruntime as ort
except ImportError as error:
    raise MissingPackageError(
        f"segzoo runs .onnx files with onnxruntime, which cannot be imported ({error}). Run: pip install "
        '"segmentation-zoo-runtime[cpu]", or [gpu] for an NVIDIA GPU; never both, since they overwrite each other.'
    ) from error
telemetry.switch_off_late(ort)

__all__ = ["ort", "quantization"]


def quantization() -> Any:
    """onnxruntime's quantizer, a module that needs the package onnx."""
    from onnxruntime import quantization

    return quantization
