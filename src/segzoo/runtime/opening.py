"""An .onnx file -> an onnxruntime session on the device that was asked for, and on no other."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from segzoo.errors import CheckpointError, DeviceError
from segzoo.runtime import device as devices

_log = logging.getLogger("segzoo.runtime")


@dataclass(frozen=True)
class Opened:
    """A session, where it runs ("cpu", "cuda:0"), onnxruntime's name for that, and a sentence on why there."""

    session: ort.InferenceSession
    device: str
    provider: str
    why: str


def open_file(path: Path, device: str, threads: int | None) -> Opened:
    """Loads the file and, on a GPU, proves with one small picture that it runs there.

    Raises:
        CheckpointError: the file is missing, empty, or not ONNX.
        DeviceError: a GPU was asked for and cannot be had.
        UnknownNameError: `device` is no device.
    """
    kind, index = devices.parse(device)
    _check_file(path)
    found: ort.InferenceSession | devices.Obstacle | None = None
    if kind != "cpu":
        found = _on_cuda(path, index, threads)
        if isinstance(found, devices.Obstacle) and kind == "cuda":
            raise DeviceError(f"device={device!r} cannot be had, because {found.reason}. {found.remedy}")
    if found is None:
        why = f"It runs on cpu, because device={device!r} was asked for."
        return Opened(_on_cpu(path, threads), "cpu", devices.CPU, why)
    if isinstance(found, devices.Obstacle):
        return Opened(_on_cpu(path, threads), "cpu", devices.CPU, f"It runs on the CPU, because {found.reason}.")
    name = f"cuda:{index}"
    reason = "device='auto' takes the first GPU that works" if kind == "auto" else f"device={device!r} was asked for"
    return Opened(found, name, devices.CUDA, f"It runs on {name}, because {reason}.")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{str(path)!r} is a folder. Pass the .onnx file that segzoo.export wrote.")
    if not path.is_file():
        raise CheckpointError(f"There is no file {str(path)!r}. Check the path; segzoo.export(model, path) writes one.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{str(path)!r} is empty (0 bytes). Copy or export it again.")


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    # Errors only: on CUDA each dynamic graph warns that its shape arithmetic stays on the CPU, which is on purpose.
    options.log_severity_level = 3
    return options


def _on_cpu(path: Path, threads: int | None) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), _options(threads), providers=[devices.CPU])
    except Exception as error:  # onnxruntime's exceptions share no base but Exception.
        advice = {
            ".safetensors": "It looks like weights: segzoo.export(segzoo.load(path), 'model.onnx') makes an ONNX file.",
            ".pt": "It looks like a torch checkpoint: export the model with segzoo.export.",
            ".pth": "It looks like a torch checkpoint: export the model with segzoo.export.",
        }.get(path.suffix.lower(), "If it was downloaded or copied, it may be truncated; do that, or export it, again.")
        raise CheckpointError(f"{str(path)!r} cannot be loaded as ONNX: {error} {advice}") from error


def _on_cuda(path: Path, index: int, threads: int | None) -> "ort.InferenceSession | devices.Obstacle":
    """A session that has run on that GPU, or what stands against it."""
    obstacle = devices.build_obstacle() or devices.driver_obstacle(index)
    if obstacle is not None:
        return obstacle
    found = _try_cuda(path, index, threads)
    if isinstance(found, devices.Obstacle):
        # A GPU that is there and cannot be used is nearly always a mistake; without one it is just the machine.
        _log.warning("CUDA cannot be used, because %s. %s", found.reason, found.remedy)
    return found


def _try_cuda(path: Path, index: int, threads: int | None) -> "ort.InferenceSession | devices.Obstacle":
    said = devices.preload()
    providers = [(devices.CUDA, {"device_id": index}), devices.CPU]
    try:
        with devices.quiet():
            # Without enable_fallback=0 onnxruntime prints its errors and goes on with the CPU, here and in run().
            session = ort.InferenceSession(str(path), _options(threads), providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no base but Exception.
        _on_cpu(path, threads)  # When the file is to blame, this raises, and says so.
        reason = f"onnxruntime cannot load the model on the GPU ({error})"
        return devices.library_obstacle(said) or devices.Obstacle(reason, "Check `nvidia-smi` for free memory.")
    if devices.CUDA not in session.get_providers():
        return devices.library_obstacle(said) or devices.Obstacle(
            "onnxruntime fell back to the CPU, although the driver and the CUDA libraries load",
            f"onnxruntime prints its own reason for onnxruntime.InferenceSession({str(path)!r}, "
            f"providers=[{devices.CUDA!r}]). {said}".rstrip(),
        )
    try:
        _probe(session)
    except Exception as error:  # As above. cuDNN is loaded by the first convolution, not with the session.
        return devices.library_obstacle(said) or devices.Obstacle(
            f"a first small run of the model failed on the GPU ({error})",
            "Check `nvidia-smi` for free memory, and that this onnxruntime-gpu supports the GPU.",
        )
    return session


def _probe(session: ort.InferenceSession) -> None:
    """Runs the model on one black picture, 32 x 32 where the file leaves the size free."""
    spec = session.get_inputs()[0]
    images = spec.type == "tensor(uint8)"
    free = (1, 32, 32, 3) if images else (1, 3, 32, 32)
    shape = [size if isinstance(size, int) else default for size, default in zip(spec.shape, free, strict=True)]
    options = ort.RunOptions()
    options.log_severity_level = 4  # What it would print is in the exception, and so in our message.
    session.run(None, {spec.name: np.zeros(shape, np.uint8 if images else np.float32)}, options)
