"""CUDA is had or refused with the reason; it never turns into the CPU unsaid.

Machines without a GPU run these tests: what is missing there is simulated at the narrow seams of runtime/device.py.
"""

import ctypes.util
import importlib.metadata
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from segzoo.errors import CheckpointError, DeviceError, UnknownNameError
from segzoo.runtime import Session, device

MakeFile = Callable[..., Path]
BUILT_FOR_CUDA = device.CUDA in onnxruntime.get_available_providers()
cuda_build = pytest.mark.skipif(not BUILT_FOR_CUDA, reason="the installed onnxruntime is the one for CPUs")

CpuSession = onnxruntime.InferenceSession


def driver(monkeypatch: pytest.MonkeyPatch, gpus: int = 1, cuda: tuple[int, int] | None = None) -> None:
    found = device.Driver(gpus, cuda or (device.built_for(), 0))
    monkeypatch.setattr(device, "read_driver", lambda: found)


def cuda_in_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [device.CUDA, device.CPU])


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Lets these libraries fail to load, and every other one load."""

    def load(name: str) -> None:
        if any(part in name for part in names):
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(device, "load_library", load)


def fake_sessions(monkeypatch: pytest.MonkeyPatch, providers: list[str], fails: str = "") -> list[dict[str, Any]]:
    """Sessions that claim `providers`, run on the CPU, and raise `fails` when they run. Returns what was asked for."""
    asked: list[dict[str, Any]] = []

    class Fake(CpuSession):  # type: ignore[misc]
        def __init__(self, path: str, options: Any, providers: list[Any], enable_fallback: int = 1) -> None:
            asked.append({"providers": providers, "enable_fallback": enable_fallback})
            super().__init__(path, options, providers=[device.CPU])

        def get_providers(self) -> list[str]:
            return providers

        def run(self, names: Any, feed: dict[str, np.ndarray], options: Any = None) -> Any:
            asked.append({name: array.shape for name, array in feed.items()})
            if fails and len(asked) == 2:
                raise RuntimeError(fails)
            return super().run(names, feed, options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Fake)
    return asked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ("auto", 0)),
        ("cpu", ("cpu", 0)),
        ("cuda", ("cuda", 0)),
        ("cuda:0", ("cuda", 0)),
        ("cuda:12", ("cuda", 12)),
    ],
)
def test_device_names(text: str, expected: tuple[str, int]) -> None:
    assert device.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda:1\n", "cpu:0", "", "cuda:1234", None, 0]
)
def test_other_device_names(text: Any, make_file: MakeFile) -> None:
    with pytest.raises(UnknownNameError, match="A device is 'auto', 'cpu', 'cuda' or 'cuda:N'"):
        Session(make_file(), text)


def test_a_near_device_name_is_offered() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cuda'"):
        device.parse("cudda")


# What stands against CUDA, in the order it is looked at


@pytest.mark.parametrize(
    ("installed", "reason"),
    [
        ({"onnxruntime"}, "built without CUDA"),
        ({"onnxruntime", "onnxruntime-gpu"}, "both onnxruntime and onnxruntime-gpu"),
    ],
)
def test_a_build_for_cpus(
    installed: set[str], reason: str, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name in installed:
            return "1.0"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [device.CPU])
    with pytest.raises(DeviceError, match=reason) as caught:
        Session(make_file(), "cuda")
    assert "onnxruntime-gpu[cuda,cudnn]" in str(caught.value)
    assert "must not be installed together" in str(caught.value)


@pytest.mark.skipif(not isinstance(device.read_driver(), device.Obstacle), reason="this machine has an NVIDIA driver")
def test_this_machine_has_no_driver(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_in_build(monkeypatch)
    with pytest.raises(DeviceError, match=r"device='cuda:1' cannot be had, because .*driver"):
        Session(make_file(), "cuda:1")


@pytest.mark.parametrize(("system", "name"), [("Linux", "libcuda.so.1"), ("Windows", "nvcuda.dll")])
def test_no_driver(system: str, name: str, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_in_build(monkeypatch)
    monkeypatch.setattr("platform.system", lambda: system)
    without(monkeypatch, name)
    with pytest.raises(DeviceError, match=f"no NVIDIA driver is installed \\({name} cannot be loaded\\)"):
        Session(make_file(), "cuda")


def test_no_driver_for_this_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert device.driver_obstacle(0) == device.Obstacle("NVIDIA has no CUDA driver for Darwin", "Use device='cpu'.")


class FakeDriver:
    """The four calls of libcuda that are made."""

    def __init__(self, init: int, gpus: int, version: int) -> None:
        self.init, self.gpus, self.version = init, gpus, version

    def cuInit(self, flags: int) -> int:
        return self.init

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.gpus
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.version
        return 0


@pytest.mark.parametrize(
    ("fake", "index", "visible", "reason"),
    [
        (FakeDriver(100, 0, 0), 0, None, "cuInit returned 100: no GPU is visible"),
        (FakeDriver(803, 0, 0), 0, None, "different versions"),
        (FakeDriver(12345, 0, 0), 0, None, "cuInit returned 12345: see CUresult"),
        (FakeDriver(0, 0, 13000), 0, "", "shows no GPU (CUDA_VISIBLE_DEVICES is '')"),
        (FakeDriver(0, 1, 13000), 1, None, "there is no cuda:1: the driver shows 1 GPU, cuda:0"),
        (FakeDriver(0, 2, 13000), 7, "3,4", "2 GPUs, cuda:0 to cuda:1 (CUDA_VISIBLE_DEVICES is '3,4')"),
        (FakeDriver(0, 1, 12080), 0, None, "serves CUDA up to 12.8, and onnxruntime is built for CUDA 13"),
    ],
)
def test_what_the_driver_says(
    fake: FakeDriver, index: int, visible: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(device, "load_library", lambda name: fake)
    monkeypatch.setattr(device, "built_for", lambda: 13)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = device.driver_obstacle(index)
    assert found is not None
    assert reason in found.reason
    assert found.remedy


def test_a_driver_that_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(device, "load_library", lambda name: FakeDriver(0, 2, 13010))
    monkeypatch.setattr(device, "built_for", lambda: 13)
    assert device.read_driver() == device.Driver(2, (13, 1))
    assert device.driver_obstacle(1) is None


# The libraries


@pytest.mark.parametrize(
    ("system", "cuda", "expected"),
    [
        ("Linux", 13, "libcublasLt.so.13 libcublas.so.13 libcurand.so.10 libcudart.so.13 libcufft.so.12 libcudnn.so.9"),
        ("Linux", 12, "libcublasLt.so.12 libcublas.so.12 libcurand.so.10 libcudart.so.12 libcufft.so.11 libcudnn.so.9"),
        ("Windows", 13, "cublasLt64_13.dll cublas64_13.dll cudart64_13.dll cufft64_12.dll cudnn64_9.dll"),
    ],
)
def test_libraries_of_the_provider(system: str, cuda: int, expected: str) -> None:
    assert device.libraries(system, cuda) == tuple(expected.split())


@cuda_build
@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf reads what the provider needs")
def test_the_list_agrees_with_the_provider_that_is_installed() -> None:
    provider = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    lines = subprocess.run(["readelf", "-d", provider], capture_output=True, text=True, check=True).stdout.splitlines()
    needed = {line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line}
    of_nvidia = {name for name in needed if name.startswith("libcu")} - {"libcuda.so.1"}
    assert of_nvidia
    assert of_nvidia <= set(device.libraries("Linux", device.built_for()))


@cuda_build
def test_no_gpu_runs_nothing_and_says_so(
    make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The one that matters: the real onnxruntime, told that a GPU is there, falls back to the CPU, and is caught."""
    if not isinstance(device.read_driver(), device.Obstacle):
        pytest.skip("this machine has an NVIDIA driver")
    driver(monkeypatch)
    with pytest.raises(DeviceError, match="device='cuda' cannot be had, because"):
        Session(make_file(), "cuda")
    # onnxruntime's red lines about it are gone, and its logger is itself again afterwards.
    assert "onnxruntime:" not in capfd.readouterr().err
    onnxruntime.InferenceSession(str(make_file()), providers=[device.CUDA, device.CPU])
    assert "Failed to create CUDAExecutionProvider" in capfd.readouterr().err


def test_missing_libraries_are_named(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_in_build(monkeypatch)
    driver(monkeypatch)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(device, "built_for", lambda: 13)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcurand.so.10:\n  no such file"))
    without(monkeypatch, "curand", "cudnn")
    fake_sessions(monkeypatch, [device.CPU])
    with pytest.raises(DeviceError) as caught:
        Session(make_file(), "cuda")
    message = str(caught.value)
    assert "libcurand.so.10 (cannot open shared object file); libcudnn.so.9 (cannot open" in message
    assert "libcublas" not in message
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in message
    assert "onnxruntime said while loading: Failed to load libcurand.so.10: no such file" in message


def test_what_preloading_prints_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        print("Failed to load this")
        raise RuntimeError("and that")

    monkeypatch.setattr(onnxruntime, "preload_dlls", fail)
    assert device.preload() == "Failed to load this and that"
    assert capsys.readouterr().out == ""


# A session on CUDA


def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_in_build(monkeypatch)
    driver(monkeypatch, gpus=2)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    without(monkeypatch)


@pytest.mark.parametrize(
    ("asked_for", "got", "why"),
    [
        ("cuda", "cuda:0", "It runs on cuda:0, because device='cuda' was asked for."),
        ("cuda:1", "cuda:1", "It runs on cuda:1, because device='cuda:1' was asked for."),
        ("auto", "cuda:0", "It runs on cuda:0, because device='auto' takes the first GPU that works."),
    ],
)
@pytest.mark.parametrize(
    ("options", "probe"),
    [
        ({}, (1, 32, 32, 3)),
        ({"io": "tensor"}, (1, 3, 32, 32)),
        ({"size": (4, 5), "batch": 2}, (2, 4, 5, 3)),
    ],
)
def test_cuda_is_had_and_probed(
    asked_for: str,
    got: str,
    why: str,
    options: dict[str, Any],
    probe: tuple[int, ...],
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready(monkeypatch)
    asked = fake_sessions(monkeypatch, [device.CUDA, device.CPU])
    session = Session(make_file(**options), asked_for)
    assert (session.device, session.provider, session.why) == (got, device.CUDA, why)
    index = int(got[-1])
    # The fallback is off: onnxruntime would go over to the CPU in run() too.
    assert asked[0] == {"providers": [(device.CUDA, {"device_id": index}), device.CPU], "enable_fallback": 0}
    assert asked[1:] == [{"image": probe}]


@pytest.mark.skipif(
    (device.build_obstacle() or device.driver_obstacle(0)) is not None, reason="this machine has no GPU for CUDA"
)
@pytest.mark.parametrize("asked_for", ["cuda", "auto"])
def test_a_real_gpu(asked_for: str, make_file: MakeFile) -> None:
    session = Session(make_file(), asked_for)
    assert (session.device, session.provider) == ("cuda:0", device.CUDA)
    images = [np.random.default_rng(seed).integers(0, 256, (40, 50 + seed % 2, 3), np.uint8) for seed in range(9)]
    for image, labels in zip(images, session.predict(images), strict=True):
        assert np.array_equal(labels, image.argmax(2))


def test_a_session_that_fell_back_is_refused(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(monkeypatch)
    fake_sessions(monkeypatch, [device.CPU])
    with pytest.raises(DeviceError, match="fell back to the CPU, although the driver and the CUDA libraries load"):
        Session(make_file(), "cuda")


def test_a_failing_probe_is_refused(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(monkeypatch)
    fake_sessions(monkeypatch, [device.CUDA, device.CPU], fails="CUDNN_STATUS_NOT_INITIALIZED")
    with pytest.raises(DeviceError, match=r"small run of the model failed on the GPU \(CUDNN_STATUS_NOT_INITIALIZED\)"):
        Session(make_file(), "cuda")


@pytest.mark.parametrize("asked_for", ["cuda", "auto"])
def test_a_bad_file_is_not_blamed_on_the_gpu(asked_for: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(monkeypatch)
    fake_sessions(monkeypatch, [device.CUDA, device.CPU])
    (tmp_path / "notes.onnx").write_bytes(b"Dear diary, " * 9)
    with pytest.raises(CheckpointError, match="cannot be loaded as ONNX"):
        Session(tmp_path / "notes.onnx", asked_for)


# device="auto"


def test_auto_says_why_it_took_the_cpu(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda_in_build(monkeypatch)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    without(monkeypatch, "libcuda.so.1")
    session = Session(make_file())
    assert (session.device, session.provider) == ("cpu", device.CPU)
    assert session.why == ("It runs on the CPU, because no NVIDIA driver is installed (libcuda.so.1 cannot be loaded).")
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(session.predict(image), image.argmax(2))


def test_auto_warns_of_a_gpu_that_cannot_be_used(
    make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ready(monkeypatch)
    without(monkeypatch, "curand")
    fake_sessions(monkeypatch, [device.CPU])
    monkeypatch.setattr("platform.system", lambda: "Linux")
    session = Session(make_file(), "auto")
    assert session.device == "cpu"
    assert "these CUDA libraries cannot be loaded: libcurand.so.10" in session.why
    assert "CUDA cannot be used, because these CUDA libraries cannot be loaded" in caplog.text


def test_the_cpu_is_taken_without_a_look_at_the_gpu(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("device='cpu' must not touch the driver")

    monkeypatch.setattr(device, "read_driver", never)
    assert Session(make_file(), "cpu").device == "cpu"


def test_load_library_loads() -> None:
    assert isinstance(device.load_library(ctypes.util.find_library("c") or "msvcrt"), ctypes.CDLL)
