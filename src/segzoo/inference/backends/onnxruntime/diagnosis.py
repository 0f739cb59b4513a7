"""`doctor`: a full report on what a GPU needs on this machine, for bug reports and after a DeviceError."""

import ctypes
import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL

from segzoo._version import __version__
from segzoo.inference.backends import nvidia_driver
from segzoo.inference.backends.device_names import DeviceIssue
from segzoo.inference.backends.onnxruntime import device, ort, telemetry

_PACKAGES = re.compile(r"(onnxruntime|ort)([-_].*)?|nvidia[-_].*|cuda[-_]toolkit|tensorrt.*|torch", re.IGNORECASE)
# The C enum CUdevice_attribute: the two halves of the compute capability, such as 9.0.
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class Library:
    """A shared library that CUDA or TensorRT needs: the file it was loaded from, or why loading failed."""

    name: str
    path: str | None
    error: str | None

    def __str__(self) -> str:
        return f"{self.name}: {self.error or self.path or 'loaded'}"


@dataclass(frozen=True)
class Report:
    """The result of `doctor`. `print` it for a bug report.

    Attributes:
        versions: of segzoo, Python, numpy, Pillow and onnxruntime, and the name of the platform.
        packages: the installed distributions of onnxruntime, CUDA, TensorRT and torch, with their versions.
        providers: the execution providers this onnxruntime is built with, whether or not they work on this machine.
        cuda: the CUDA version it is built for; None if it is built without CUDA.
        driver: the NVIDIA driver, in one line.
        gpus: one line per GPU: name, memory, compute capability.
        libraries: those that onnxruntime's CUDA provider loads, then TensorRT's.
        preload: what onnxruntime.preload_dlls printed about libraries that it could not load.
        telemetry: what onnxruntime may have written and sent because other code imported it first, with a remedy; None
            if segzoo switched its telemetry off in time, or if the user has set ORT_DISABLE_TELEMETRY.
        problems: why device="cuda" will not work, each with a remedy, in the order in which to fix them.
    """

    versions: dict[str, str]
    packages: dict[str, str]
    providers: tuple[str, ...]
    cuda: str | None
    driver: str
    gpus: tuple[str, ...]
    libraries: tuple[Library, ...]
    preload: str
    telemetry: str | None
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no problem with device="cuda" was detected. Only a run shows that it works; OnnxBackend does one."""
        return not self.problems

    def __str__(self) -> str:
        path = os.environ.get("LD_LIBRARY_PATH")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        verdict = ("No problems detected.",) if self.ok else self.problems
        sections = {
            "versions": [f"{name} {version}" for name, version in self.versions.items()],
            "packages": [f"{name} {version}" for name, version in self.packages.items()] or ["none"],
            "onnxruntime": [f"built with {', '.join(self.providers)}", f"built for CUDA {self.cuda or '(none)'}"],
            "driver": [self.driver, *self.gpus],
            "libraries": [str(library) for library in self.libraries] or ["none needed on this platform"],
            "preload_dlls": [self.preload or "no output"],
            "environment": [f"LD_LIBRARY_PATH={path}", f"CUDA_VISIBLE_DEVICES={visible}", telemetry.report()],
            **({} if self.telemetry is None else {"telemetry": [self.telemetry]}),
            "device='cuda'": verdict,
        }
        return "\n".join(f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections.items())


def doctor() -> Report:
    """Checks everything that running on a GPU needs, without running a model or changing anything.

    Libraries that load stay loaded in this process. It takes a second or two if all of them are installed.
    """
    preload_output = device.preload()
    status = nvidia_driver.read_driver()
    driver, gpus = (status.reason, ()) if isinstance(status, DeviceIssue) else _describe(status)
    cuda = str(ort.cuda_version) if ort.cuda_version else None
    names: tuple[str, ...] = ()
    if platform.system() in ("Linux", "Windows"):
        names = (
            *device.libraries(platform.system(), device.built_for()),
            *device.tensorrt_libraries(platform.system()),
        )
    return Report(
        versions={
            "segzoo": __version__,
            "Python": platform.python_version(),
            "numpy": np.__version__,
            "Pillow": PIL.__version__,
            "onnxruntime": ort.__version__,
            "platform": platform.platform(),
        },
        packages=_packages(),
        providers=tuple(ort.get_available_providers()),
        cuda=cuda,
        driver=driver,
        gpus=gpus,
        libraries=tuple(_load(name) for name in names),
        preload=preload_output,
        telemetry=telemetry.issue(),
        problems=tuple(_problems(preload_output)),
    )


def _problems(preload_output: str) -> list[str]:
    issues = [device.build_issue(), device.driver_issue(0)]
    if platform.system() in ("Linux", "Windows"):
        issues.append(device.library_issue(preload_output))
    problems = [f"{issue.reason[:1].upper()}{issue.reason[1:]}. {issue.remedy}" for issue in issues if issue]
    conflict = device.both_packages()
    return problems if conflict is None or any(conflict in text for text in problems) else [*problems, conflict]


def _packages() -> dict[str, str]:
    packages = {
        package.name: package.version
        for package in importlib.metadata.distributions()
        if _PACKAGES.fullmatch(package.name or "")
    }
    return dict(sorted(packages.items(), key=lambda pair: pair[0].lower()))


def _load(name: str) -> Library:
    try:
        nvidia_driver.load_library(name)
    except OSError as error:
        return Library(name, None, str(error).removeprefix(f"{name}: "))
    return Library(name, _loaded_from(name), None)


def _loaded_from(name: str) -> str | None:
    """The file that a library was loaded from, on Linux."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return None
    for line in maps.read_text().splitlines():
        path = line.partition("/")[2]
        # libcudart.so.13 is a link to libcudart.so.13.0.96.
        if path.rpartition("/")[2].startswith(name):
            return f"/{path}"
    return None


def _describe(driver: nvidia_driver.Driver) -> tuple[str, tuple[str, ...]]:
    gpus = f"{driver.gpus} GPU{'s' * (driver.gpus != 1)}"
    line = f"supports CUDA up to {driver.cuda[0]}.{driver.cuda[1]} and reports {gpus}"
    return line, tuple(_gpu(index) for index in range(driver.gpus))


def _gpu(index: int) -> str:
    name, memory, major, minor = ctypes.create_string_buffer(128), ctypes.c_size_t(), ctypes.c_int(), ctypes.c_int()
    handle = ctypes.c_int()
    try:
        library = nvidia_driver.load_library("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        library.cuDeviceGet(ctypes.byref(handle), index)
        library.cuDeviceGetName(name, len(name), handle)
        library.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
        library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, handle)
        library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, handle)
    except (OSError, AttributeError) as error:  # A report is worth having even if the driver fails.
        return f"cuda:{index}: {error}"
    model = name.value.decode(errors="replace") or "a GPU without a name"
    return f"cuda:{index}: {model}, {memory.value / 2**30:.1f} GiB, compute capability {major.value}.{minor.value}"
