"""The onnxruntime backend: sessions, devices, and why a device is unavailable."""

try:
    import onnxruntime as _onnxruntime  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"segzoo runs .onnx files with onnxruntime, which cannot be imported ({error}). Install `onnxruntime` for the "
        "CPU, or `onnxruntime-gpu[cuda,cudnn]` for an NVIDIA GPU; never both, since they overwrite each other."
    ) from error
