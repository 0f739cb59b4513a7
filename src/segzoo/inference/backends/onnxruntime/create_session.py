"""An .onnx file -> an onnxruntime session on the device that was asked for, and on no other."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from segzoo.classes import LabelSet
from segzoo.errors import CheckpointError, DeviceError, SegzooError
from segzoo.inference.backends.onnxruntime import device as devices
from segzoo.inference.backends.onnxruntime.io_binding import Bound
from segzoo.inference.backends.onnxruntime.read_spec import read_record
from segzoo.weights.catalog import entries

_log = logging.getLogger("segzoo.inference")


@dataclass(frozen=True)
class Options:
    """How a session runs: CPU threads (None is onnxruntime's choice), TF32 and CUDA graphs."""

    threads: int | None = None
    tf32: bool = False
    cuda_graph: bool = False


@dataclass(frozen=True)
class Opened:
    """A session and what its file says, where it runs ("cpu", "cuda:0"), by which provider, and a sentence on why.

    `bound` runs it on a GPU's own buffers; None on the CPU.
    """

    session: ort.InferenceSession
    record: dict[str, Any]
    labels: LabelSet
    device: str
    provider: str
    why: str
    bound: Bound | None


@dataclass(frozen=True)
class _Gpu:
    session: ort.InferenceSession
    record: dict[str, Any]
    labels: LabelSet
    bound: Bound


def open_file(path: Path, device: str, options: Options) -> Opened:
    """Loads the file and, on a GPU, proves with one small picture that it runs there.

    Raises:
        CheckpointError: the file is missing, empty, not ONNX, or not segzoo's.
        DeviceError: a GPU was asked for and cannot be had.
        UnknownNameError: `device` is no device.
        SegzooError: CUDA graphs were asked for, and the device is another, or the file is of no fixed size.
    """
    kind, index = devices.parse(device)
    if options.cuda_graph and kind in ("cpu", "tensorrt"):
        raise SegzooError(f"cuda_graph=True needs device='cuda'; got device={device!r}.")
    _check_file(path)
    found: _Gpu | devices.Obstacle | None = None
    if kind != "cpu":
        found = _on_gpu(path, "cuda" if kind == "auto" else kind, index, options)
        if isinstance(found, devices.Obstacle) and kind != "auto":
            raise DeviceError(
                f"device={device!r} cannot be had, because {found.reason}. {found.remedy} "
                "`segzoo.inference.doctor()` shows the whole picture."
            )
    if isinstance(found, devices.Obstacle) and options.cuda_graph:
        raise SegzooError(f"cuda_graph=True needs CUDA, and {found.reason}. {found.remedy}")
    if found is None or isinstance(found, devices.Obstacle):
        session = _on_cpu(path, options)
        record, labels = read_record(session, path)
        why = f"It runs on cpu, because device={device!r} was asked for."
        if found is not None:
            why = f"It runs on the CPU, because {found.reason}."
        return Opened(session, record, labels, "cpu", devices.CPU, why, None)
    name = f"{'tensorrt' if kind == 'tensorrt' else 'cuda'}:{index}"
    provider = devices.TENSORRT if kind == "tensorrt" else devices.CUDA
    reason = "device='auto' takes the first GPU that works" if kind == "auto" else f"device={device!r} was asked for"
    why = f"It runs on {name}, because {reason}."
    return Opened(found.session, found.record, found.labels, name, provider, why, found.bound)


def _check_file(path: Path) -> None:
    if not path.exists() and path.as_posix() in entries():
        name = path.as_posix()
        raise CheckpointError(
            f"{name!r} is a key of the catalog, and a Session runs .onnx files. `segzoo export {name}` makes one of "
            f"it; segzoo.load({name!r}) is the model in torch."
        )
    if path.is_file() and path.suffix.lower() == ".safetensors":
        raise CheckpointError(
            f"{str(path)!r} holds weights, and a Session runs .onnx files. `segzoo export {path}` makes one of it; "
            f"segzoo.load({str(path)!r}) is the model in torch."
        )
    if path.is_dir():
        raise CheckpointError(f"{str(path)!r} is a folder. Pass the .onnx file that segzoo.export wrote.")
    if not path.is_file():
        raise CheckpointError(f"There is no file {str(path)!r}. Check the path; segzoo.export(model, path) writes one.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{str(path)!r} is empty (0 bytes). Copy or export it again.")


def _settings(options: Options) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    # Errors only: on CUDA each dynamic graph warns that its shape arithmetic stays on the CPU, which is on purpose.
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return settings


def placement(session: ort.InferenceSession) -> dict[str, list[str]]:
    """Provider -> the operators that it runs, as onnxruntime itself assigned them when it loaded the graph."""
    placed: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        placed.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    return placed


def _on_cpu(path: Path, options: Options) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), _settings(options), providers=[devices.CPU])
    except Exception as error:  # onnxruntime's exceptions share no base but Exception.
        advice = {
            ".pt": "It looks like a torch checkpoint: export the model with segzoo.export.",
            ".pth": "It looks like a torch checkpoint: export the model with segzoo.export.",
        }.get(path.suffix.lower(), "If it was downloaded or copied, it may be truncated; do that, or export it, again.")
        raise CheckpointError(f"{str(path)!r} cannot be loaded as ONNX: {error} {advice}") from error


def _on_gpu(path: Path, kind: str, index: int, options: Options) -> "_Gpu | devices.Obstacle":
    """A session that has run on that GPU, or what stands against it."""
    provider = devices.TENSORRT if kind == "tensorrt" else devices.CUDA
    obstacle = devices.build_obstacle(provider) or devices.driver_obstacle(index)
    if obstacle is not None:
        return obstacle
    found = _try_gpu(path, provider, index, options)
    if isinstance(found, devices.Obstacle):
        # A GPU that is there and cannot be used is nearly always a mistake; without one it is just the machine.
        _log.warning("CUDA cannot be used, because %s. %s", found.reason, found.remedy)
    return found


def _try_gpu(path: Path, provider: str, index: int, options: Options) -> "_Gpu | devices.Obstacle":
    said = devices.preload()
    obstacle = devices.tensorrt_obstacle() if provider == devices.TENSORRT else None
    if obstacle is not None:
        return obstacle
    try:
        session = _make(path, provider, index, options, fixed=False)
        fixed = provider in session.get_providers() and all(isinstance(n, int) for n in session.get_inputs()[0].shape)
        if fixed:
            session = _make(path, provider, index, options, fixed=True)
    except Exception as error:  # onnxruntime's exceptions share no base but Exception.
        _on_cpu(path, options)  # When the file is to blame, this raises, and says so.
        return _blame(
            said, "onnxruntime cannot load the model on the GPU", error, "Check `nvidia-smi` for free memory."
        )
    if provider not in session.get_providers():
        return devices.library_obstacle(said) or devices.Obstacle(
            "onnxruntime fell back to the CPU, although the driver and the CUDA libraries load",
            f"onnxruntime prints its own reason for onnxruntime.InferenceSession({str(path)!r}, "
            f"providers=[{provider!r}]). {said}".rstrip(),
        )
    record, labels = read_record(session, path)
    if options.cuda_graph and not fixed:
        raise SegzooError(
            f"cuda_graph=True needs a file of one size, and {path.name} takes {session.get_inputs()[0].shape}. "
            "Export the model with fixed=(1, height, width)."
        )
    bound = Bound(session, ("cuda", index), len(labels), options.cuda_graph)
    try:
        _probe(session, bound)
    except Exception as error:  # As above. cuDNN is loaded by the first convolution, not with the session.
        remedy = "Check `nvidia-smi` for free memory, and that this onnxruntime-gpu supports the GPU."
        return _blame(said, "a first small run of the model failed on the GPU", error, remedy)
    return _Gpu(session, record, labels, bound)


def _blame(said: str, what: str, error: Exception, remedy: str) -> devices.Obstacle:
    """The libraries that are missing, if any are; with the error itself, since one of them may be needed by nothing."""
    libraries = devices.library_obstacle(said)
    if libraries is None:
        return devices.Obstacle(f"{what} ({error})", remedy)
    return devices.Obstacle(f"{what} ({error}), and {libraries.reason}", libraries.remedy)


def _make(path: Path, provider: str, index: int, options: Options, fixed: bool) -> ort.InferenceSession:
    cuda = {
        "device_id": index,
        # onnxruntime's own choice is EXHAUSTIVE: it times every algorithm of every convolution, again for each new size
        # of image. That pays where there is one size, and costs seconds a photograph where there are many.
        "cudnn_conv_algo_search": "EXHAUSTIVE" if fixed else "HEURISTIC",
        # onnxruntime's own choice is TF32, with 10 bits of mantissa; export proved the file with 23.
        "use_tf32": int(options.tf32),
        "enable_cuda_graph": int(options.cuda_graph and fixed),
    }
    providers: list[Any] = [(devices.CUDA, cuda), devices.CPU]
    if provider == devices.TENSORRT:
        providers = [(devices.TENSORRT, {"device_id": index}), *providers]
    with devices.quiet():
        # Without enable_fallback=0 onnxruntime prints its errors and goes on with the CPU, here and in run().
        return ort.InferenceSession(str(path), _settings(options), providers=providers, enable_fallback=0)


def _probe(session: ort.InferenceSession, bound: Bound) -> None:
    """Runs the model on one black picture, 32 x 32 where the file leaves the size free.

    The model itself, and no lone convolution: besides cuDNN it proves that every kernel of this network is there for
    this GPU, and that its weights fit.
    """
    spec = session.get_inputs()[0]
    images = spec.type == "tensor(uint8)"
    free = (1, 32, 32, 3) if images else (1, 3, 32, 32)
    shape = [size if isinstance(size, int) else default for size, default in zip(spec.shape, free, strict=True)]
    options = ort.RunOptions()
    options.log_severity_level = 4  # What it would print is in the exception, and so in our message.
    bound.run(np.zeros(shape, np.uint8 if images else np.float32), [session.get_outputs()[0].name], options)
