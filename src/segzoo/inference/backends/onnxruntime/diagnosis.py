"""The whole picture of what the runtime finds on this machine, for a bug report and for the reader of a DeviceError."""

import ctypes
import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import PIL

from segzoo._version import __version__
from segzoo.inference.backends.onnxruntime import device

_PACKAGES = re.compile(r"(onnxruntime|ort)([-_].*)?|nvidia[-_].*|cuda[-_]toolkit|tensorrt.*|torch", re.IGNORECASE)
# The C enum CUdevice_attribute: the two halves of the compute capability, such as 9.0.
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True)
class Library:
    """A shared library that CUDA or TensorRT needs: the file it was loaded from, or why it could not be."""

    name: str
    path: str | None
    error: str | None

    def __str__(self) -> str:
        return f"{self.name}: {self.error or self.path or 'loaded'}"


@dataclass(frozen=True)
class Report:
    """What `doctor` found. Printed, it is the text for a bug report.

    Attributes:
        versions: of segzoo, Python, numpy, Pillow and onnxruntime, and the name of the platform.
        packages: the installed distributions that bring onnxruntime, CUDA, TensorRT or torch, with their versions.
        providers: what this onnxruntime was built with; a fact about the build, not about the machine.
        cuda: the version of CUDA that it was built for; None where it was built without.
        driver: one line on the NVIDIA driver.
        gpus: one line each: name, memory, compute capability.
        libraries: those that onnxruntime's CUDA provider loads, then TensorRT's.
        preload: what onnxruntime.preload_dlls said of libraries that it found and could not load.
        problems: what stands against device="cuda", each with what to do, in the order in which to mend them.
    """

    versions: dict[str, str]
    packages: dict[str, str]
    providers: tuple[str, ...]
    cuda: str | None
    driver: str
    gpus: tuple[str, ...]
    libraries: tuple[Library, ...]
    preload: str
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing stands against device="cuda". Only a run proves that it works: Session makes one."""
        return not self.problems

    def __str__(self) -> str:
        path = os.environ.get("LD_LIBRARY_PATH")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        verdict = ("Nothing stands against device='cuda'.",) if self.ok else self.problems
        parts = {
            "versions": [f"{name} {version}" for name, version in self.versions.items()],
            "packages": [f"{name} {version}" for name, version in self.packages.items()] or ["none"],
            "onnxruntime": [f"built with {', '.join(self.providers)}", f"built for CUDA {self.cuda or '(none)'}"],
            "driver": [self.driver, *self.gpus],
            "libraries": [str(library) for library in self.libraries] or ["none are needed on this platform"],
            "preload_dlls": [self.preload or "said nothing"],
            "environment": [f"LD_LIBRARY_PATH={path}", f"CUDA_VISIBLE_DEVICES={visible}"],
            "device='cuda'": verdict,
        }
        return "\n".join(f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in parts.items())


def doctor() -> Report:
    """Looks at everything that running on a GPU needs; nothing is run, and nothing is changed.

    The libraries that load stay loaded in this process. It takes a second or two where all of them are there.
    """
    said = device.preload()
    found = device.read_driver()
    driver, gpus = (f"{found.reason}", ()) if isinstance(found, device.Obstacle) else _describe(found)
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
            "on": platform.platform(),
        },
        packages=_packages(),
        providers=tuple(ort.get_available_providers()),
        cuda=cuda,
        driver=driver,
        gpus=gpus,
        libraries=tuple(_load(name) for name in names),
        preload=said,
        problems=tuple(_problems(said)),
    )


def _problems(said: str) -> list[str]:
    obstacles = [device.build_obstacle(), device.driver_obstacle(0)]
    if platform.system() in ("Linux", "Windows"):
        obstacles.append(device.library_obstacle(said))
    problems = [f"{one.reason[:1].upper()}{one.reason[1:]}. {one.remedy}" for one in obstacles if one is not None]
    both = device.both_packages()
    return problems if both is None or any(both in one for one in problems) else [*problems, both]


def _packages() -> dict[str, str]:
    found = {one.name: one.version for one in importlib.metadata.distributions() if _PACKAGES.fullmatch(one.name or "")}
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def _load(name: str) -> Library:
    try:
        device.load_library(name)
    except OSError as error:
        return Library(name, None, str(error).removeprefix(f"{name}: "))
    return Library(name, _loaded_from(name), None)


def _loaded_from(name: str) -> str | None:
    """The file that a library was loaded from, where the system tells."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return None
    for line in maps.read_text().splitlines():
        path = line.partition("/")[2]
        # libcudart.so.13 is a link to libcudart.so.13.0.96.
        if path.rpartition("/")[2].startswith(name):
            return f"/{path}"
    return None


def _describe(found: device.Driver) -> tuple[str, tuple[str, ...]]:
    line = f"serves CUDA up to {found.cuda[0]}.{found.cuda[1]} and shows {found.gpus} GPU{'s' * (found.gpus != 1)}"
    return line, tuple(_gpu(index) for index in range(found.gpus))


def _gpu(index: int) -> str:
    name, memory, major, minor = ctypes.create_string_buffer(128), ctypes.c_size_t(), ctypes.c_int(), ctypes.c_int()
    handle = ctypes.c_int()
    try:
        library = device.load_library("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        library.cuDeviceGet(ctypes.byref(handle), index)
        library.cuDeviceGetName(name, len(name), handle)
        library.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
        library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, handle)
        library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, handle)
    except (OSError, AttributeError) as error:  # The driver was there a moment ago: a report goes on.
        return f"cuda:{index}: {error}"
    shown = name.value.decode(errors="replace") or "a GPU without a name"
    return f"cuda:{index}: {shown}, {memory.value / 2**30:.1f} GiB, compute capability {major.value}.{minor.value}"
