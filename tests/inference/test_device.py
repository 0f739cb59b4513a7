"""CUDA is used or refused with a reason; it never falls back to the CPU silently.

These tests run on machines without a GPU: the functions of device.py that query the machine are patched.
"""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from provider_libraries import needed_libraries, needs_readelf

from segzoo.errors import DeviceError, OptionError, UnknownNameError
from segzoo.inference import Predictor
from segzoo.inference.backends import device_names, nvidia_driver
from segzoo.inference.backends.onnxruntime import device
from segzoo.models.load import _cuda_issue

MakeFile = Callable[..., Path]
BUILT_FOR_CUDA = device.CUDA in onnxruntime.get_available_providers()
cuda_build = pytest.mark.skipif(not BUILT_FOR_CUDA, reason="the installed onnxruntime is the CPU build")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ("auto", 0)),
        ("cpu", ("cpu", 0)),
        ("cuda", ("cuda", 0)),
        ("cuda:0", ("cuda", 0)),
        ("cuda:12", ("cuda", 12)),
        ("tensorrt", ("tensorrt", 0)),
        ("tensorrt:1", ("tensorrt", 1)),
    ],
)
def test_device_names(text: str, expected: tuple[str, int]) -> None:
    assert device_names.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["gpu", "CUDA", "cuda:", "auto:0", "tensorrt:", "cuda:-1", "cuda:x", "cuda:1\n", "cpu:0", "", "cuda:1234"],
)
def test_other_device_names(text: Any, make_file: MakeFile) -> None:
    with pytest.raises(UnknownNameError, match="A device is 'auto', 'cpu', 'cuda' or 'cuda:N'"):
        Predictor(make_file(), text)


@pytest.mark.parametrize(
    ("device", "shown"), [(None, "None"), (0, "0"), (["cpu"], r"\['cpu'\]"), (torch.device("cpu"), "device")]
)
def test_a_device_is_a_string(device: Any, shown: str, make_file: MakeFile) -> None:
    with pytest.raises(OptionError, match=rf"device must be a string such as 'cpu' or 'cuda:0', not {shown}"):
        Predictor(make_file(), device)


def test_a_similar_device_name_is_suggested() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'cuda'"):
        device_names.parse("cudda")


# Checks of CUDA, in their order


@pytest.mark.parametrize(
    ("installed", "reason"),
    [
        ({"onnxruntime"}, "built without CUDA"),
        ({"onnxruntime", "onnxruntime-gpu"}, "both onnxruntime and onnxruntime-gpu"),
    ],
)
def test_a_cpu_build_is_refused(
    installed: set[str], reason: str, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name in installed:
            return "1.0"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [device.CPU])
    with pytest.raises(DeviceError, match=reason) as caught:
        Predictor(make_file(), "cuda")
    assert "onnxruntime-gpu[cuda,cudnn]" in str(caught.value)
    assert "must not be installed together" in str(caught.value)


@pytest.mark.skipif(
    not isinstance(nvidia_driver.read_driver(), device_names.DeviceIssue), reason="this machine has an NVIDIA driver"
)
def test_this_machine_has_no_driver(make_file: MakeFile, machine: Any) -> None:
    machine.cuda_in_build()
    with pytest.raises(DeviceError, match=r"device='cuda:1' is unavailable, because .*driver"):
        Predictor(make_file(), "cuda:1")


@pytest.mark.parametrize(("system", "name"), [("Linux", "libcuda.so.1"), ("Windows", "nvcuda.dll")])
def test_no_driver(system: str, name: str, make_file: MakeFile, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.cuda_in_build()
    monkeypatch.setattr("platform.system", lambda: system)
    machine.without(name)
    with pytest.raises(DeviceError, match=f"no NVIDIA driver is installed \\({name} cannot be loaded\\)"):
        Predictor(make_file(), "cuda")


def test_no_driver_for_this_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert device.driver_issue(0) == device_names.DeviceIssue(
        "NVIDIA has no CUDA driver for Darwin", "Use device='cpu'."
    )


class FakeDriver:
    """The three functions of libcuda that segzoo calls."""

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
        (FakeDriver(0, 0, 13000), 0, "", "reports no GPU (CUDA_VISIBLE_DEVICES is '')"),
        (FakeDriver(0, 1, 13000), 1, None, "there is no cuda:1: the driver reports 1 GPU, cuda:0"),
        (FakeDriver(0, 2, 13000), 7, "3,4", "2 GPUs, cuda:0 to cuda:1 (CUDA_VISIBLE_DEVICES is '3,4')"),
        (FakeDriver(0, 1, 12080), 0, None, "supports CUDA up to 12.8, but onnxruntime is built for CUDA 13"),
    ],
)
def test_issues_of_the_driver(
    fake: FakeDriver, index: int, visible: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(nvidia_driver, "load_library", lambda name: fake)
    monkeypatch.setattr(device, "built_for", lambda: 13)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    issue = device.driver_issue(index)
    assert issue is not None
    assert reason in issue.reason
    assert issue.remedy


def test_a_sufficient_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(nvidia_driver, "load_library", lambda name: FakeDriver(0, 2, 13010))
    monkeypatch.setattr(device, "built_for", lambda: 13)
    assert nvidia_driver.read_driver() == nvidia_driver.Driver(2, (13, 1))
    assert device.driver_issue(1) is None


def test_the_driver_is_compared_with_what_is_to_run_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model in torch needs the CUDA version of torch, not that of onnxruntime, which may not be installed."""
    monkeypatch.setattr(nvidia_driver, "read_driver", lambda: nvidia_driver.Driver(1, (12, 8)))
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _cuda_issue(0) == "the NVIDIA driver supports CUDA up to 12.8, but torch is built for CUDA 13"
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    assert _cuda_issue(0) == "torch can use no GPU on this machine"


# The libraries


@pytest.mark.parametrize(
    ("system", "cuda", "expected"),
    [
        ("Linux", 13, "libcublasLt.so.13 libcublas.so.13 libcurand.so.10 libcudart.so.13 libcufft.so.12 libcudnn.so.9"),
        ("Linux", 12, "libcublasLt.so.12 libcublas.so.12 libcurand.so.10 libcudart.so.12 libcufft.so.11 libcudnn.so.9"),
        ("Windows", 13, "cublasLt64_13.dll cublas64_13.dll cudart64_13.dll cufft64_12.dll cudnn64_9.dll"),
    ],
)
def test_libraries_of_the_cuda_provider(system: str, cuda: int, expected: str) -> None:
    assert device.libraries(system, cuda) == tuple(expected.split())


@cuda_build
@needs_readelf
def test_the_list_agrees_with_the_installed_provider() -> None:
    nvidia = {name for name in needed_libraries("cuda") if name.startswith("libcu")} - {"libcuda.so.1"}
    assert nvidia
    assert nvidia <= set(device.libraries("Linux", device.built_for()))


@cuda_build
def test_the_fallback_of_onnxruntime_is_detected(
    make_file: MakeFile, machine: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """The most important one: the real onnxruntime, on a fake GPU, falls back to the CPU, and segzoo notices."""
    if not isinstance(nvidia_driver.read_driver(), device_names.DeviceIssue):
        pytest.skip("this machine has an NVIDIA driver")
    machine.driver()
    with pytest.raises(DeviceError, match="device='cuda' is unavailable, because"):
        Predictor(make_file(), "cuda")
    # onnxruntime's log messages are suppressed, and its logger is reset afterwards.
    assert "onnxruntime:" not in capfd.readouterr().err
    onnxruntime.InferenceSession(str(make_file()), providers=[device.CUDA, device.CPU])
    assert "Failed to create CUDAExecutionProvider" in capfd.readouterr().err


def test_missing_libraries_are_named(make_file: MakeFile, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.cuda_in_build()
    machine.driver()
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(device, "built_for", lambda: 13)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libcurand.so.10:\n  no such file"))
    machine.without("curand", "cudnn")
    machine.fake_sessions([device.CPU])
    with pytest.raises(DeviceError) as caught:
        Predictor(make_file(), "cuda")
    message = str(caught.value)
    assert "libcurand.so.10 (cannot open shared object file); libcudnn.so.9 (cannot open" in message
    assert "libcublas" not in message
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in message
    assert "onnxruntime printed while loading: Failed to load libcurand.so.10: no such file" in message


def test_the_output_of_preloading_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        print("Failed to load this")
        raise RuntimeError("and that")

    monkeypatch.setattr(onnxruntime, "preload_dlls", fail)
    assert device.preload() == "Failed to load this and that"
    assert capsys.readouterr().out == ""
