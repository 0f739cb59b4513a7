"""Checks whether CUDA is available, and if not, why.

onnxruntime does not say: its list of providers only describes the build, and a session whose CUDA libraries are missing
runs on the CPU without an exception. So everything that CUDA needs is checked here, in the order in which a user has to
fix it: the build, the driver, the GPU, then the libraries.
"""

import contextlib
import importlib.metadata
import io
import os
import platform
import sys
import threading
import warnings
from collections.abc import Iterator

from segzoo.inference.backends import nvidia_driver
from segzoo.inference.backends.device_names import DeviceIssue
from segzoo.inference.backends.onnxruntime import ort

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
CPU = "CPUExecutionProvider"

_LOGGER = threading.Lock()
# The major version that onnxruntime's TensorRT provider links to (1.28 to 1.31); the newest one on PyPI is later.
_TENSORRT = 10

_INSTALL = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
_ONE_PACKAGE = (
    "onnxruntime and onnxruntime-gpu must not be installed together, since they overwrite each other's files: "
    f"`pip uninstall onnxruntime onnxruntime-gpu`, then `{_INSTALL}`."
)


def build_issue(provider: str = CUDA) -> DeviceIssue | None:
    """Why the installed onnxruntime cannot use CUDA (or TensorRT); None if it is built with it."""
    if provider in ort.get_available_providers():
        return None
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) == 2:
        return DeviceIssue(
            "both onnxruntime and onnxruntime-gpu are installed, and the CPU build is in use", _ONE_PACKAGE
        )
    name = "TensorRT" if provider == TENSORRT else "CUDA"
    return DeviceIssue(f"the installed onnxruntime is built without {name}", _ONE_PACKAGE)


def both_packages() -> str | None:
    """What to do if both onnxruntime packages are installed; None if they are not."""
    return _ONE_PACKAGE if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu") else None


def driver_issue(index: int) -> DeviceIssue | None:
    """Why the driver or its GPUs do not permit CUDA; None if GPU number `index` is available."""
    return nvidia_driver.driver_issue(index, "onnxruntime", built_for())


def library_issue(preload_output: str) -> DeviceIssue | None:
    """Which CUDA libraries of onnxruntime cannot be loaded; None if all of them load.

    Args:
        preload_output: what `preload` returned. It names libraries that are installed but failed to load.
    """
    missing = missing_libraries()
    if not missing:
        return None
    reason = "these CUDA libraries cannot be loaded: " + "; ".join(f"{name} ({why})" for name, why in missing.items())
    output = f" onnxruntime printed while loading: {preload_output}" if preload_output else ""
    conflict = both_packages()
    return DeviceIssue(reason, f"Install them: `{_INSTALL}`.{f' {conflict}' if conflict else ''}{output}")


def tensorrt_issue() -> DeviceIssue | None:
    """Which TensorRT library cannot be loaded; None if they load."""
    folders = [""]
    # The wheels install them outside the loader's search path. Once loaded by path, they are found by name.
    for folder in (os.path.join(entry, "tensorrt_libs") for entry in sys.path):
        if os.path.isdir(folder):
            folders.insert(0, folder)
    for name in tensorrt_libraries(platform.system()):
        reasons = []
        for folder in folders:
            try:
                nvidia_driver.load_library(os.path.join(folder, name))
                break
            except OSError as error:
                reasons.append(str(error))
        else:
            return DeviceIssue(
                f"TensorRT's library {name} cannot be loaded ({reasons[-1].removeprefix(f'{name}: ')})",
                f"Install TensorRT {_TENSORRT}, which this onnxruntime needs: "
                f"`pip install 'tensorrt-cu{built_for()}=={_TENSORRT}.*'`, or use device='cuda'.",
            )
    return None


def tensorrt_libraries(system: str) -> tuple[str, ...]:
    """The shared libraries of TensorRT that onnxruntime's TensorRT provider loads."""
    names = ("nvinfer", "nvonnxparser")
    return tuple(f"{name}_{_TENSORRT}.dll" if system == "Windows" else f"lib{name}.so.{_TENSORRT}" for name in names)


def preload() -> str:
    """Loads the CUDA libraries that pip installed, and returns what onnxruntime prints about failures."""
    # preload_dlls reports with print only, and its lines would confuse users without context.
    output = io.StringIO()
    with contextlib.redirect_stdout(output), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            ort.preload_dlls()
        except Exception as error:  # Preloading is optional; creating the session shows whether CUDA works.
            print(error)
        for warning in warned:
            print(warning.message)
    return " ".join(output.getvalue().split())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences onnxruntime's log on stderr while a CUDA session is created; our errors say the same, with a remedy.

    SessionOptions.log_severity_level does not affect these messages (measured with onnxruntime 1.31.1): they come from
    the logger of the process, whose level can be set but not read. It is reset to 2 (warnings), the default.
    """
    with _LOGGER:
        ort.set_default_logger_severity(4)
        try:
            yield
        finally:
            ort.set_default_logger_severity(2)


def built_for() -> int:
    """The major version of CUDA that the installed onnxruntime is built for."""
    return int(str(ort.cuda_version or "13").split(".")[0])


def libraries(system: str, cuda: int) -> tuple[str, ...]:
    """The shared libraries that onnxruntime's CUDA provider loads: cuDNN at the first run, the others at creation.

    Args:
        system: as returned by `platform.system()`.
        cuda: the major version of CUDA.
    """
    fft = {11: 10, 12: 11}.get(cuda, 12)
    if system == "Windows":
        stems = (f"cublasLt64_{cuda}", f"cublas64_{cuda}", f"cudart64_{cuda}", f"cufft64_{fft}", "cudnn64_9")
        return tuple(f"{stem}.dll" for stem in stems)
    versions = {"cublasLt": cuda, "cublas": cuda, "curand": 10, "cudart": cuda, "cufft": fft, "cudnn": 9}
    return tuple(f"lib{name}.so.{version}" for name, version in versions.items())


def missing_libraries() -> dict[str, str]:
    """The libraries that fail to load on this machine, each with the loader's reason."""
    failed = {}
    for name in libraries(platform.system(), built_for()):
        try:
            nvidia_driver.load_library(name)
        except OSError as error:
            failed[name] = str(error).removeprefix(f"{name}: ")
    return failed


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
