"""The NVIDIA driver: whether it is there, its GPUs, and the CUDA version that it supports. Every engine needs it."""

import ctypes
import os
import platform
from dataclasses import dataclass

from segzoo.inference.backends.device_names import DeviceIssue

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


def driver_issue(index: int, program: str, cuda: int) -> DeviceIssue | None:
    """Why the driver or its GPUs do not permit CUDA; None if GPU number `index` is available.

    Args:
        program: what is to run on the GPU: the name of its package.
        cuda: the major version of CUDA that the program is built for.
    """
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
    if driver.cuda[0] < cuda:
        return DeviceIssue(
            f"the NVIDIA driver supports CUDA up to {driver.cuda[0]}.{driver.cuda[1]}, but {program} is built for "
            f"CUDA {cuda}",
            f"Update the driver, or install a build of {program} for CUDA {driver.cuda[0]}.",
        )
    return None


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
