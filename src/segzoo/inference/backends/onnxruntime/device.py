"""Whether CUDA can be had, and why not.

onnxruntime does not say: its list of providers is a fact about the build, and a session whose CUDA libraries are
missing runs on the CPU with no exception. So each thing that CUDA needs is looked at here, in the order in which a user
would have to mend them: the build, the driver, the GPU, then the libraries.
"""

import contextlib
import ctypes
import importlib.metadata
import io
import os
import platform
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import onnxruntime as ort

from segzoo.errors import unknown

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
CPU = "CPUExecutionProvider"

_LOGGER = threading.Lock()
# The major version that onnxruntime's TensorRT provider is linked to (1.28 to 1.31); pip's newest is a later one.
_TENSORRT = 10

_INSTALL = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
_ONE_PACKAGE = (
    "onnxruntime and onnxruntime-gpu must not be installed together, since they overwrite each other's files: "
    f"`pip uninstall onnxruntime onnxruntime-gpu`, then `{_INSTALL}`."
)
# The C enum CUresult, for the codes that cuInit returns on machines that are set up wrongly.
_CUDA_CODES = {
    34: "only a stub of the driver is installed",
    100: "no GPU is visible",
    802: "the system is not ready; on NVSwitch machines the fabric manager must run",
    803: "the driver's kernel module and library are of different versions; a restart usually mends it",
    804: "this driver cannot serve a newer CUDA on this GPU",
    999: "an unknown error; a restart, or `nvidia-modprobe -u`, usually mends it",
}


@dataclass(frozen=True)
class Obstacle:
    """Why CUDA cannot be had (a clause that follows "because"), and what to do about it (whole sentences)."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class Driver:
    """What the NVIDIA driver says: how many GPUs it shows, and the newest CUDA it serves, such as (13, 0)."""

    gpus: int
    cuda: tuple[int, int]


def parse(device: str) -> tuple[str, int]:
    """Turns a device into its kind and the GPU's number: "cuda:1" into ("cuda", 1), "tensorrt" into ("tensorrt", 0).

    Raises:
        UnknownNameError: it is none of "auto", "cpu", "cuda", "cuda:N", "tensorrt" and "tensorrt:N".
    """
    found = re.fullmatch(r"(auto|cpu|cuda|tensorrt)|(cuda|tensorrt):([0-9]{1,3})", device if _is_text(device) else "")
    if found is None:
        known = ("auto", "cpu", "cuda", "cuda:0", "tensorrt", "tensorrt:0")
        see = "A device is 'auto', 'cpu', 'cuda' or 'cuda:N', such as 'cuda:1', or 'tensorrt'."
        raise unknown("device", str(device), known, see)
    return found[1] or found[2], int(found[3] or 0)


def build_obstacle(provider: str = CUDA) -> Obstacle | None:
    """What stands against CUDA (or TensorRT) in the installed onnxruntime itself; None when it was built for it."""
    if provider in ort.get_available_providers():
        return None
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) == 2:
        return Obstacle(
            "both onnxruntime and onnxruntime-gpu are installed, and the one in use is for CPUs", _ONE_PACKAGE
        )
    name = "TensorRT" if provider == TENSORRT else "CUDA"
    return Obstacle(f"the installed onnxruntime is built without {name}", _ONE_PACKAGE)


def both_packages() -> str | None:
    """What to do where onnxruntime is installed twice; None where it is not."""
    return _ONE_PACKAGE if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu") else None


def driver_obstacle(index: int) -> Obstacle | None:
    """What stands against CUDA in the driver and the GPUs it shows; None when GPU number `index` is there."""
    found = read_driver()
    if isinstance(found, Obstacle):
        return found
    if index >= found.gpus:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        note = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
        if found.gpus == 0:
            return Obstacle(f"the NVIDIA driver shows no GPU{note}", "Check `nvidia-smi -L` and CUDA_VISIBLE_DEVICES.")
        plural = "GPU, cuda:0" if found.gpus == 1 else f"GPUs, cuda:0 to cuda:{found.gpus - 1}"
        return Obstacle(
            f"there is no cuda:{index}: the driver shows {found.gpus} {plural}{note}", "Ask for one of them."
        )
    needed = built_for()
    if found.cuda[0] < needed:
        return Obstacle(
            f"the NVIDIA driver serves CUDA up to {found.cuda[0]}.{found.cuda[1]}, and onnxruntime is built for "
            f"CUDA {needed}",
            f"Update the driver, or install an onnxruntime-gpu built for CUDA {found.cuda[0]}.",
        )
    return None


def library_obstacle(said: str) -> Obstacle | None:
    """What stands against CUDA in the libraries that onnxruntime loads; None when all of them load.

    Args:
        said: what `preload` returned, which names libraries that were found and yet failed.
    """
    missing = missing_libraries()
    if not missing:
        return None
    reason = "these CUDA libraries cannot be loaded: " + "; ".join(f"{name} ({why})" for name, why in missing.items())
    also = f" onnxruntime said while loading: {said}" if said else ""
    both = both_packages()
    return Obstacle(reason, f"Install them: `{_INSTALL}`.{f' {both}' if both else ''}{also}")


def tensorrt_obstacle() -> Obstacle | None:
    """What stands against TensorRT in its own libraries; None when they load."""
    folders = [""]
    # Its wheels put them where no loader looks; once loaded by path they are found by name.
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
            return Obstacle(
                f"TensorRT's library {name} cannot be loaded ({reasons[-1].removeprefix(f'{name}: ')})",
                f"Install TensorRT {_TENSORRT}, which this onnxruntime needs: "
                f"`pip install 'tensorrt-cu{built_for()}=={_TENSORRT}.*'`; or use device='cuda'.",
            )
    return None


def tensorrt_libraries(system: str) -> tuple[str, ...]:
    """The shared libraries of TensorRT that onnxruntime's TensorRT provider loads."""
    names = ("nvinfer", "nvonnxparser")
    return tuple(f"{name}_{_TENSORRT}.dll" if system == "Windows" else f"lib{name}.so.{_TENSORRT}" for name in names)


def preload() -> str:
    """Loads the CUDA libraries that pip installed, and returns what onnxruntime printed about those that failed."""
    # preload_dlls reports by print alone; unheard, its lines would stand on the user's terminal without a context.
    said = io.StringIO()
    with contextlib.redirect_stdout(said), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            ort.preload_dlls()
        except Exception as error:  # It is a courtesy of onnxruntime: whether CUDA works is seen by trying.
            print(error)
        for warning in warned:
            print(warning.message)
    return " ".join(said.getvalue().split())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps onnxruntime's own lines off stderr while a session on CUDA is made; ours say the same, with what to do.

    SessionOptions.log_severity_level does not reach those lines (measured with onnxruntime 1.31.1): they come from the
    logger of the process, whose level can be set and not read. Afterwards it is 2 (warnings), its default.
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
    """The shared libraries that onnxruntime's CUDA provider loads: cuDNN at the first run, the others at once.

    Args:
        system: as `platform.system()` gives it.
        cuda: the major version of CUDA.
    """
    fft = {11: 10, 12: 11}.get(cuda, 12)
    if system == "Windows":
        parts = (f"cublasLt64_{cuda}", f"cublas64_{cuda}", f"cudart64_{cuda}", f"cufft64_{fft}", "cudnn64_9")
        return tuple(part + ".dll" for part in parts)
    versions = {"cublasLt": cuda, "cublas": cuda, "curand": 10, "cudart": cuda, "cufft": fft, "cudnn": 9}
    return tuple(f"lib{name}.so.{version}" for name, version in versions.items())


def missing_libraries() -> dict[str, str]:
    """The libraries of `libraries` that fail to load on this machine, each with the loader's reason."""
    failed = {}
    for name in libraries(platform.system(), built_for()):
        try:
            load_library(name)
        except OSError as error:
            failed[name] = str(error).removeprefix(f"{name}: ")
    return failed


def read_driver() -> Driver | Obstacle:
    """Asks the NVIDIA driver itself, which a build of onnxruntime cannot fake."""
    name = {"Linux": "libcuda.so.1", "Windows": "nvcuda.dll"}.get(platform.system())
    if name is None:
        return Obstacle(f"NVIDIA has no CUDA driver for {platform.system()}", "Use device='cpu'.")
    try:
        library = load_library(name)
    except OSError:
        return Obstacle(
            f"no NVIDIA driver is installed ({name} cannot be loaded)",
            "Install the driver, or in a container start it with its GPUs (`docker run --gpus all`); "
            "on a machine without an NVIDIA GPU use device='cpu'.",
        )
    try:
        code = library.cuInit(0)
    except AttributeError as error:  # an empty library that stands in for the driver while programs are linked
        return Obstacle(f"{name} is not NVIDIA's driver ({error})", "Install the driver.")
    if code != 0:
        meaning = _CUDA_CODES.get(code, "see CUresult in NVIDIA's documentation of the driver")
        return Obstacle(
            f"the NVIDIA driver does not start (cuInit returned {code}: {meaning})",
            "Check that `nvidia-smi` works, and CUDA_VISIBLE_DEVICES.",
        )
    gpus, version = ctypes.c_int(0), ctypes.c_int(0)
    library.cuDeviceGetCount(ctypes.byref(gpus))
    library.cuDriverGetVersion(ctypes.byref(version))
    return Driver(gpus.value, (version.value // 1000, version.value % 1000 // 10))


def load_library(name: str) -> ctypes.CDLL:
    """One shared library by name; OSError when it, or what it needs, is not there."""
    return ctypes.CDLL(name)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
