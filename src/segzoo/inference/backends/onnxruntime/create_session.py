"""Creates an onnxruntime session on the requested device, and on no other."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segzoo.errors import CheckpointError, DeviceError, OptionError, shown
from segzoo.inference.backends.base import EngineOptions
from segzoo.inference.backends.device_names import DeviceIssue, explain, parse
from segzoo.inference.backends.onnxruntime import device as devices
from segzoo.inference.backends.onnxruntime import ort
from segzoo.inference.backends.onnxruntime.io_binding import IOBindingRunner
from segzoo.inference.backends.onnxruntime.providers import PROVIDERS, Provider
from segzoo.inference.backends.onnxruntime.read_spec import read_spec
from segzoo.spec import ExportSpec, ModelSpec

_log = logging.getLogger("segzoo.inference")


@dataclass(frozen=True)
class CreatedSession:
    """A session, the specs of its file, its device ("cpu", "cuda:0"), its provider, and a sentence on why.

    `io_binding` runs it with buffers on the GPU; None on the CPU. `reopen` creates a session of a model's bytes on the
    same device with the same options.
    """

    session: ort.InferenceSession
    spec: ModelSpec
    export: ExportSpec
    device: str
    provider: str
    device_reason: str
    io_binding: IOBindingRunner | None
    reopen: Callable[[bytes], ort.InferenceSession]


@dataclass(frozen=True)
class _Gpu:
    session: ort.InferenceSession
    spec: ModelSpec
    export: ExportSpec
    io_binding: IOBindingRunner
    reopen: Callable[[bytes], ort.InferenceSession]


def create_session(path: Path, device: str, options: EngineOptions) -> CreatedSession:
    """Loads the file. On a GPU it also runs the model on one small image, to check that it works there.

    Raises:
        CheckpointError: the file is missing, empty, not ONNX, or not written by segzoo.export.
        DeviceError: the requested GPU is unavailable.
        UnknownNameError: `device` is not a device.
        OptionError: CUDA graphs were requested for another device or for a file without a fixed size.
    """
    requested, index = parse(device)
    if options.cuda_graph and requested != "auto" and not (requested in PROVIDERS and PROVIDERS[requested].cuda_graphs):
        raise OptionError(f"cuda_graph=True needs device='cuda'; got device={device!r}.")
    _check_file(path)
    issue: DeviceIssue | None = None
    for name, provider in PROVIDERS.items():
        if name != requested and not (requested == "auto" and provider.automatic):
            continue
        gpu = _on_gpu(path, provider, index, options)
        if isinstance(gpu, _Gpu):
            chosen = f"{name}:{index}"
            reason = explain(chosen, device)
            return CreatedSession(
                gpu.session, gpu.spec, gpu.export, chosen, provider.name, reason, gpu.io_binding, gpu.reopen
            )
        issue = issue or gpu
    if issue is not None and requested != "auto":
        raise DeviceError(
            f"device={device!r} is unavailable, because {issue.reason}. {issue.remedy} "
            "`segzoo.inference.doctor()` prints a full report."
        )
    if issue is not None and options.cuda_graph:
        raise OptionError(f"cuda_graph=True needs CUDA, but {issue.reason}. {issue.remedy}")
    session = _on_cpu(path, options)
    spec, export = read_spec(session, path)
    reason = explain("cpu", device, None if issue is None else issue.reason)
    return CreatedSession(
        session, spec, export, "cpu", devices.CPU, reason, None, lambda model: _create_on_cpu(model, options)
    )


def _check_file(path: Path) -> None:
    if path.is_file() and path.suffix.lower() == ".safetensors":
        raise CheckpointError(
            f"{str(path)!r} holds weights, which onnxruntime cannot run. `segzoo export {path}` writes an .onnx file; "
            f"segzoo.Predictor({str(path)!r}) runs it in torch."
        )
    if path.is_dir():
        raise CheckpointError(f"{str(path)!r} is a folder. Pass the .onnx file that segzoo.export wrote.")
    if not path.is_file():
        raise CheckpointError(f"There is no file {str(path)!r}. Check the path; segzoo.export(model, path) writes one.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{str(path)!r} is empty (0 bytes). Copy or export it again.")


def _settings(options: EngineOptions) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    # On CUDA every dynamic graph warns that its shape arithmetic stays on the CPU, which is intended. Errors are raised
    # too, and onnxruntime would print names from the file as they are, with the codes that change a terminal.
    settings.log_severity_level = 4
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return settings


def placement(session: ort.InferenceSession) -> dict[str, list[str]]:
    """Operators by execution provider, as onnxruntime assigned them when it loaded the graph."""
    placed: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        placed.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    return placed


def _create_on_cpu(model: str | bytes, options: EngineOptions) -> ort.InferenceSession:
    return ort.InferenceSession(model, _settings(options), providers=[devices.CPU])


def _on_cpu(path: Path, options: EngineOptions) -> ort.InferenceSession:
    try:
        return _create_on_cpu(str(path), options)
    except Exception as error:  # onnxruntime's exceptions share no base but Exception.
        advice = "If it was downloaded or copied, it may be truncated: download, copy or export it again."
        if path.suffix.lower() in (".pt", ".pth"):
            advice = "It looks like a torch checkpoint: export the model with segzoo.export."
        raise CheckpointError(f"{str(path)!r} cannot be loaded as ONNX: {error} {advice}") from error


def _on_gpu(path: Path, provider: Provider, index: int, options: EngineOptions) -> "_Gpu | DeviceIssue":
    """A session that has run on the GPU, or the reason why it cannot."""
    issue = provider.issue(index)
    if issue is not None:
        return issue
    result = _try_gpu(path, provider, index, options)
    if isinstance(result, DeviceIssue):
        # An unusable GPU is nearly always a mistake in the setup; a machine without a GPU is not.
        _log.warning("%s cannot be used, because %s. %s", provider.title, result.reason, result.remedy)
    return result


def _try_gpu(path: Path, provider: Provider, index: int, options: EngineOptions) -> "_Gpu | DeviceIssue":
    preload_output = devices.preload()
    issue = provider.missing_library()
    if issue is not None:
        return issue
    try:
        session = _make(str(path), provider, index, options, fixed=False)
        fixed = provider.name in session.get_providers() and all(
            isinstance(n, int) for n in session.get_inputs()[0].shape
        )
        if fixed:
            session = _make(str(path), provider, index, options, fixed=True)
    except Exception as error:  # onnxruntime's exceptions share no base but Exception.
        _on_cpu(path, options)  # raises if the file is the cause
        remedy = "Check `nvidia-smi` for free memory."
        return _explain(preload_output, "onnxruntime cannot load the model on the GPU", error, remedy)
    if provider.name not in session.get_providers():
        return devices.library_issue(preload_output) or DeviceIssue(
            "onnxruntime fell back to the CPU, although the driver and the CUDA libraries load",
            f"onnxruntime.InferenceSession({str(path)!r}, providers=[{provider.name!r}]) prints onnxruntime's reason. "
            f"{preload_output}".rstrip(),
        )
    spec, export = read_spec(session, path)
    if options.cuda_graph and not fixed:
        taken = shown(session.get_inputs()[0].shape)
        raise OptionError(
            f"cuda_graph=True needs a file with a fixed size, but {path.name} takes {taken}. "
            "Export the model with static_shape=(1, height, width)."
        )
    io_binding = IOBindingRunner(session, ("cuda", index), spec.num_classes, options.cuda_graph)
    try:
        _probe(session, io_binding)
    except Exception as error:  # As above. cuDNN is loaded by the first convolution, not with the session.
        remedy = "Check `nvidia-smi` for free memory, and that this onnxruntime-gpu supports the GPU."
        return _explain(preload_output, "a first small run of the model failed on the GPU", error, remedy)
    # Without CUDA graphs, which need the bound buffers that only the first session has.
    plain = replace(options, cuda_graph=False)
    return _Gpu(session, spec, export, io_binding, lambda model: _make(model, provider, index, plain, fixed))


def _explain(preload_output: str, failure: str, error: Exception, remedy: str) -> DeviceIssue:
    """The error, and any missing libraries. Both are stated, since a missing library need not be the cause."""
    libraries = devices.library_issue(preload_output)
    quoted = shown(error, 1000)
    if libraries is None:
        return DeviceIssue(f"{failure} ({quoted})", remedy)
    return DeviceIssue(f"{failure} ({quoted}), and {libraries.reason}", libraries.remedy)


def _make(
    model: str | bytes, provider: Provider, index: int, options: EngineOptions, fixed: bool
) -> ort.InferenceSession:
    providers = provider.session_providers(index, options, fixed)
    with devices.quiet():
        # Without enable_fallback=0 onnxruntime prints errors and continues on the CPU, both here and in run().
        return ort.InferenceSession(model, _settings(options), providers=providers, enable_fallback=0)


def _probe(session: ort.InferenceSession, runner: IOBindingRunner) -> None:
    """Runs the model on one black image, 32 x 32 unless the file has a fixed size.

    The complete model rather than a single convolution: this checks cuDNN, that a kernel of every operator exists for
    this GPU, and that the weights fit into its memory.
    """
    model_input = session.get_inputs()[0]
    images = model_input.type == "tensor(uint8)"
    defaults = (1, 32, 32, 3) if images else (1, 3, 32, 32)
    shape = [n if isinstance(n, int) else default for n, default in zip(model_input.shape, defaults, strict=True)]
    options = ort.RunOptions()
    options.log_severity_level = 4  # The exception, and so our message, says the same.
    runner.run(np.zeros(shape, np.uint8 if images else np.float32), [session.get_outputs()[0].name], options)
