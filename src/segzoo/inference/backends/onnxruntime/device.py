"""Checks whether CUDA is available, and if not, why.

onnxruntime does not say: its list of providers only describes the build, and a session whose CUDA libraries are missing
runs on the CPU without an exception. So everything that CUDA needs is checked here, in the order in which a user has to
fix it: the build, the driver, the GPU, then the libraries.
"""

import contextlib
import ctypes
import importlib.metadata
import io
import os
import platform
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import onnxruntime as ort

from segzoo.inference.backends.device_names import DeviceIssue

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
# Values of the C enum CUresult that cuInit returns on misconfigured machines.
_CUDA_CODES = {
    34: "only a stub of the driver is installed",
    100: "no GPU is visible",
    802: "the system is not ready; on NVSwitch machines the fabric manager must run",
    803: "the driver's kernel module and library have different versions; a reboot usually fixes it",
    804: "this driver cannot serve a newer CUDA on this GPU",
    999: "an unknown error; a reboot, or `nvidia-modprobe -u`, usually fixes it",
}


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver: how many GPUs it reports, and the newest CUDA version it supports, such as (13, 0)."""

    gpus: int
    cuda: tuple[int, int]


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
    driver = read_driver()
    if isinstance(driver, DeviceIssue):
        return driver
    if index >= driver.gpus:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        note = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
        if driver.gpus == 0:
            return DeviceIssue(
                f"the NVIDIA driver reports no GPU{note}", "Check `nvidia-smi -L` and CUDA_VISIBLE_DEVICES."
            )
        plural = "GPU, cuda:0" if driver.gpus == 1 else f"GPUs, cuda:0 to cuda:{driver.gpus - 1}"
        return DeviceIssue(
            f"there is no cuda:{index}: the driver reports {driver.gpus} {plural}{note}", "Choose one of these."
        )
    needed = built_for()
    if driver.cuda[0] < needed:
        return DeviceIssue(
            f"the NVIDIA driver supports CUDA up to {driver.cuda[0]}.{driver.cuda[1]}, but onnxruntime is built for "
            f"CUDA {needed}",
            f"Update the driver, or install an onnxruntime-gpu built for CUDA {driver.cuda[0]}.",
        )
    return None


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
                load_library(os.path.join(folder, name))
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
            load_library(name)
        except OSError as error:
            failed[name] = str(error).removeprefix(f"{name}: ")
    return failed


def read_driver() -> Driver | DeviceIssue:
    """Queries the NVIDIA driver directly, independently of onnxruntime."""
    name = {"Linux": "libcuda.so.1", "Windows": "nvcuda.dll"}.get(platform.system())
    if name is None:
        return DeviceIssue(f"NVIDIA has no CUDA driver for {platform.system()}", "Use device='cpu'.")
    try:
        library = load_library(name)
    except OSError:
        return DeviceIssue(
            f"no NVIDIA driver is installed ({name} cannot be loaded)",
            "Install the driver, or start the container with GPUs (`docker run --gpus all`); "
            "on a machine without an NVIDIA GPU use device='cpu'.",
        )
    try:
        code = library.cuInit(0)
    except AttributeError as error:  # an empty stub of the driver, for linking programs
        return DeviceIssue(f"{name} is not NVIDIA's driver ({error})", "Install the driver.")
    if code != 0:
        meaning = _CUDA_CODES.get(code, "see CUresult in NVIDIA's driver documentation")
        return DeviceIssue(
            f"the NVIDIA driver does not start (cuInit returned {code}: {meaning})",
            "Check that `nvidia-smi` works, and check CUDA_VISIBLE_DEVICES.",
        )
    gpus, version = ctypes.c_int(0), ctypes.c_int(0)
    library.cuDeviceGetCount(ctypes.byref(gpus))
    library.cuDriverGetVersion(ctypes.byref(version))
    return Driver(gpus.value, (version.value // 1000, version.value % 1000 // 10))


def load_library(name: str) -> ctypes.CDLL:
    """Loads a shared library by name; raises OSError if it, or a library it needs, is missing."""
    return ctypes.CDLL(name)


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
