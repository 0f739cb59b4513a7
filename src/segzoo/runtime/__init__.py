"""An .onnx file made by segzoo -> label maps, with onnxruntime and numpy alone.

    from segzoo.runtime import Session
    mask = Session("street.onnx", device="cuda").predict("street.jpg")

Floor 0: a machine that only runs models needs neither torch nor timm.
"""

try:
    import onnxruntime as _onnxruntime  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"segzoo.runtime needs onnxruntime, which cannot be imported ({error}). Install `onnxruntime` for the CPU, or "
        "`onnxruntime-gpu[cuda,cudnn]` for an NVIDIA GPU; never both, since they overwrite each other."
    ) from error

from segzoo.runtime.diagnosis import Report, doctor
from segzoo.runtime.session import Session
from segzoo.runtime.stream import Result

__all__ = ["Report", "Result", "Session", "doctor"]
