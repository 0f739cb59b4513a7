"""onnxruntime's execution providers, as the devices that users name.

A provider is one object: whether it is available and why not, the options that it is opened with, and what to check
when a session fails. `PROVIDERS` has them by device.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from segzoo.inference.backends.base import EngineOptions
from segzoo.inference.backends.device_names import GPU_TYPES, DeviceIssue
from segzoo.inference.backends.onnxruntime import device as devices


@dataclass(frozen=True)
class Provider:
    """An execution provider that runs on a GPU.

    Attributes:
        title: its name in text, such as "CUDA".
        name: onnxruntime's name for it, such as "CUDAExecutionProvider".
        issue: why GPU number `index` cannot be used, checked before any library is loaded; None if it can.
        missing_library: which library of its own cannot be loaded, checked after CUDA's have been preloaded.
        session_providers: onnxruntime's argument `providers` for GPU number `index`; the last argument says whether
            the graph has a fixed size.
        automatic: whether device="auto" tries it.
        cuda_graphs: whether it supports `cuda_graph`.
    """

    title: str
    name: str
    issue: Callable[[int], DeviceIssue | None]
    missing_library: Callable[[], DeviceIssue | None]
    session_providers: Callable[[int, EngineOptions, bool], list[Any]]
    automatic: bool = False
    cuda_graphs: bool = False


def _cuda_options(index: int, options: EngineOptions, fixed: bool) -> dict[str, Any]:
    return {
        "device_id": index,
        # onnxruntime's default is EXHAUSTIVE: it times every algorithm of every convolution, again for each new image
        # size. That pays off for one fixed size, and costs seconds per image if sizes vary.
        "cudnn_conv_algo_search": "EXHAUSTIVE" if fixed else "HEURISTIC",
        # onnxruntime's default is TF32, with 10 bits of mantissa; export verified the file with 23.
        "use_tf32": int(options.tf32),
        "enable_cuda_graph": int(options.cuda_graph and fixed),
    }


def _cuda(index: int, options: EngineOptions, fixed: bool) -> list[Any]:
    return [(devices.CUDA, _cuda_options(index, options, fixed)), devices.CPU]


def _tensorrt(index: int, options: EngineOptions, fixed: bool) -> list[Any]:
    return [(devices.TENSORRT, {"device_id": index}), *_cuda(index, options, fixed)]


PROVIDERS: dict[str, Provider] = {
    "cuda": Provider(
        title="CUDA",
        name=devices.CUDA,
        issue=lambda index: devices.build_issue(devices.CUDA) or devices.driver_issue(index),
        missing_library=lambda: None,  # named by `devices.library_issue`, if the session fails
        session_providers=_cuda,
        automatic=True,
        cuda_graphs=True,
    ),
    "tensorrt": Provider(
        title="TensorRT",
        name=devices.TENSORRT,
        issue=lambda index: devices.build_issue(devices.TENSORRT) or devices.driver_issue(index),
        missing_library=devices.tensorrt_issue,
        session_providers=_tensorrt,
    ),
}
"""Providers by the name of their device; device="auto" tries the automatic ones in this order."""


def register_provider(device: str, provider: Provider) -> None:
    """Adds an execution provider under the name of a device, such as "rocm"; an existing one is replaced."""
    PROVIDERS[device] = provider
    if device not in GPU_TYPES:
        GPU_TYPES.append(device)
