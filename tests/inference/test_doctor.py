"""`doctor` reports what is installed, what is missing and what to do, and prints nothing itself."""

import ctypes
from typing import Any

import onnxruntime
import pytest

from segzoo.inference import Report, doctor
from segzoo.inference.backends import nvidia_driver
from segzoo.inference.backends.onnxruntime import device, diagnosis
from segzoo.inference.backends.onnxruntime.diagnosis import Library


def test_this_machine(capfd: pytest.CaptureFixture[str]) -> None:
    report = doctor()
    assert report.versions["onnxruntime"] == onnxruntime.__version__
    assert report.providers == tuple(onnxruntime.get_available_providers())
    assert any(name.startswith("onnxruntime") for name in report.packages)
    assert report.ok == (not report.problems)
    text = str(report)
    for title in ("versions", "packages", "driver", "libraries", "preload_dlls", "environment", "device='cuda'"):
        assert f"\n{title}\n" in f"\n{text}"
    for library in report.libraries:
        assert str(library) in text
        assert library.error is None or library.path is None
    assert capfd.readouterr() == ("", "")


def test_the_file_that_a_library_was_loaded_from() -> None:
    if not diagnosis.Path("/proc/self/maps").exists():
        pytest.skip("the file is known on Linux only")
    ctypes.CDLL("libc.so.6")
    library = diagnosis._load("libc.so.6")
    assert library.error is None
    assert library.path is not None
    assert library.path.endswith("/libc.so.6")
    missing = diagnosis._load("libnothing.so.7")
    assert (missing.path, missing.error) == (None, "cannot open shared object file: No such file or directory")
    assert str(missing) == "libnothing.so.7: cannot open shared object file: No such file or directory"


class FakeDriver:
    """An H100 behind the functions of libcuda that segzoo calls."""

    def cuDeviceGet(self, handle: Any, index: int) -> int:
        handle._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, length: int, handle: Any) -> int:
        name.value = b"NVIDIA H100"
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, handle: Any) -> int:
        memory._obj.value = 80 * 2**30
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, handle: Any) -> int:
        value._obj.value = {75: 9, 76: 0}[attribute]
        return 0


def test_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(nvidia_driver, "load_library", lambda name: FakeDriver())
    monkeypatch.setattr(nvidia_driver, "read_driver", lambda: nvidia_driver.Driver(1, (device.built_for(), 2)))
    monkeypatch.setattr(device, "preload", lambda: "")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [device.CUDA, device.CPU])
    monkeypatch.setattr(device, "both_packages", lambda: None)
    report = doctor()
    assert report.gpus == ("cuda:0: NVIDIA H100, 80.0 GiB, compute capability 9.0",)
    assert report.ok
    assert "device='cuda'\n  No problems detected." in str(report)


def test_problems_are_in_the_order_in_which_to_fix_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: not here")

    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(nvidia_driver, "load_library", missing)
    monkeypatch.setattr(device, "preload", lambda: "Failed to load libcurand.so.10")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [device.CPU])
    monkeypatch.setattr(device, "_is_installed", lambda name: True)
    report = doctor()
    assert not report.ok
    build, driver, libraries = report.problems
    assert build.startswith("Both onnxruntime and onnxruntime-gpu are installed")
    assert driver.startswith("No NVIDIA driver is installed")
    assert libraries.startswith("These CUDA libraries cannot be loaded: libcublasLt")
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in libraries
    assert all(library.error == "not here" for library in report.libraries)
    assert "Failed to load libcurand" in str(report)


def test_a_report_is_plain_data() -> None:
    report = Report({}, {}, (), None, "none", (), (Library("a.so", None, None),), "", None, ("No GPU. Buy one.",))
    assert "built for CUDA (none)" in str(report)
    assert "a.so: loaded" in str(report)
    assert str(report).endswith("device='cuda'\n  No GPU. Buy one.")
