"""A session runs on the requested GPU, after a test run, or is refused; mostly simulated, without a GPU."""

import ctypes.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from provider_libraries import needed_libraries, needs_readelf

from segzoo.errors import CheckpointError, DeviceError, SegzooError
from segzoo.inference import OnnxBackend, Predictor
from segzoo.inference.backends import nvidia_driver
from segzoo.inference.backends.onnxruntime import device

MakeFile = Callable[..., Path]
BUILT_FOR_CUDA = device.CUDA in onnxruntime.get_available_providers()
cuda_build = pytest.mark.skipif(not BUILT_FOR_CUDA, reason="the installed onnxruntime is the CPU build")


# A session on CUDA


@pytest.mark.parametrize(
    ("requested", "actual", "reason"),
    [
        ("cuda", "cuda:0", "Running on cuda:0, because device='cuda' was requested."),
        ("cuda:1", "cuda:1", "Running on cuda:1, because device='cuda:1' was requested."),
        ("auto", "cuda:0", "Running on cuda:0, because device='auto' uses the first GPU that works."),
    ],
)
@pytest.mark.parametrize(
    ("options", "probe"),
    [
        ({}, (1, 32, 32, 3)),
        ({"input": "tensor"}, (1, 3, 32, 32)),
        ({"size": (4, 5), "batch": 2}, (2, 4, 5, 3)),
    ],
)
def test_cuda_is_used_after_a_probe(
    requested: str,
    actual: str,
    reason: str,
    options: dict[str, Any],
    probe: tuple[int, ...],
    make_file: MakeFile,
    machine: Any,
) -> None:
    machine.ready()
    calls = machine.fake_sessions([device.CUDA, device.CPU])
    session = OnnxBackend(make_file(**options), requested)
    assert (session.device, session.provider, session.device_reason) == (actual, device.CUDA, reason)
    fixed = "size" in options
    searches = ["HEURISTIC", "EXHAUSTIVE"] if fixed else ["HEURISTIC"]
    for call, search in zip(calls, searches, strict=False):
        # Without this onnxruntime would fall back to the CPU in run() too.
        assert call["enable_fallback"] == 0
        cuda = {"device_id": int(actual[-1]), "cudnn_conv_algo_search": search, "use_tf32": 0, "enable_cuda_graph": 0}
        assert call["providers"] == [(device.CUDA, cuda), device.CPU]
    assert calls[len(searches) :] == [{"run": probe}]


@pytest.mark.skipif(
    (device.build_issue() or device.driver_issue(0)) is not None, reason="this machine has no GPU for CUDA"
)
@pytest.mark.parametrize("requested", ["cuda", "auto"])
def test_a_real_gpu(requested: str, make_file: MakeFile) -> None:
    session = Predictor(make_file(), requested)
    assert (session.device, session.backend.provider) == ("cuda:0", device.CUDA)
    images = [np.random.default_rng(seed).integers(0, 256, (40, 50 + seed % 2, 3), np.uint8) for seed in range(9)]
    for image, mask in zip(images, session.predict(images), strict=True):
        assert np.array_equal(mask, image.argmax(2))


def test_tensorrt_is_used_or_refused(make_file: MakeFile, machine: Any) -> None:
    machine.ready()
    calls = machine.fake_sessions([device.TENSORRT, device.CUDA, device.CPU])
    session = Predictor(make_file(), "tensorrt:1")
    assert (session.device, session.backend.provider) == ("tensorrt:1", device.TENSORRT)
    assert [name if isinstance(name, str) else name[0] for name in calls[0]["providers"]] == [
        device.TENSORRT,
        device.CUDA,
        device.CPU,
    ]
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(session.predict(image), image.argmax(2))
    machine.fake_sessions([device.CUDA, device.CPU])
    with pytest.raises(DeviceError, match="device='tensorrt' is unavailable, because"):
        Predictor(make_file(), "tensorrt")


@pytest.mark.parametrize("system", ["Linux", "Windows"])
def test_missing_tensorrt_is_named(
    system: str, make_file: MakeFile, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.ready()
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr(device, "built_for", lambda: 13)
    machine.without("nvinfer")
    name = {"Linux": "libnvinfer.so.10", "Windows": "nvinfer_10.dll"}[system]
    with pytest.raises(DeviceError) as caught:
        Predictor(make_file(), "tensorrt")
    assert f"because TensorRT's library {name} cannot be loaded (cannot open shared object file)" in str(caught.value)
    assert "pip install 'tensorrt-cu13==10.*'" in str(caught.value)


def test_a_build_without_tensorrt(make_file: MakeFile, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.cuda_in_build()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [device.CUDA, device.CPU])
    monkeypatch.setattr(device, "_is_installed", lambda name: name == "onnxruntime-gpu")
    with pytest.raises(DeviceError, match="built without TensorRT"):
        Predictor(make_file(), "tensorrt")


@cuda_build
@needs_readelf
def test_the_tensorrt_version_is_the_one_the_provider_needs() -> None:
    needed = {name for name in needed_libraries("tensorrt") if name.startswith("libnv")}
    assert needed == set(device.tensorrt_libraries("Linux"))


# CUDA graphs and TF32


def test_tf32_is_passed_on(make_file: MakeFile, machine: Any) -> None:
    machine.ready()
    calls = machine.fake_sessions([device.CUDA, device.CPU])
    Predictor(make_file(), "cuda", tf32=True)
    assert calls[0]["providers"][0][1]["use_tf32"] == 1


def test_cuda_graphs_need_a_fixed_size(make_file: MakeFile, machine: Any) -> None:
    machine.ready()
    calls = machine.fake_sessions([device.CUDA, device.CPU])
    session = Predictor(make_file(size=(4, 5), batch=1), "cuda", cuda_graph=True)
    # The first session only reads the size: with CUDA graphs, a file of dynamic size fails to load.
    assert [call["providers"][0][1]["enable_cuda_graph"] for call in calls[:2]] == [0, 1]
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(session.predict(image), image.argmax(2))
    with pytest.raises(SegzooError, match="cuda_graph=True needs a file with a fixed size"):
        Predictor(make_file(), "cuda", cuda_graph=True)


@pytest.mark.parametrize("requested", ["cpu", "tensorrt"])
def test_cuda_graphs_need_cuda(requested: str, make_file: MakeFile) -> None:
    with pytest.raises(SegzooError, match="cuda_graph=True needs device='cuda'"):
        Predictor(make_file(), requested, cuda_graph=True)


def test_a_session_that_fell_back_is_refused(make_file: MakeFile, machine: Any) -> None:
    machine.ready()
    machine.fake_sessions([device.CPU])
    with pytest.raises(DeviceError, match="fell back to the CPU, although the driver and the CUDA libraries load"):
        Predictor(make_file(), "cuda")


def test_a_failing_probe_is_refused(make_file: MakeFile, machine: Any) -> None:
    machine.ready()
    machine.fake_sessions([device.CUDA, device.CPU], fails="CUDNN_STATUS_NOT_INITIALIZED")
    with pytest.raises(DeviceError, match=r"small run of the model failed on the GPU \(CUDNN_STATUS_NOT_INITIALIZED\)"):
        Predictor(make_file(), "cuda")


@pytest.mark.parametrize("requested", ["cuda", "auto"])
def test_a_bad_file_is_not_blamed_on_the_gpu(requested: str, tmp_path: Path, machine: Any) -> None:
    machine.ready()
    machine.fake_sessions([device.CUDA, device.CPU])
    (tmp_path / "notes.onnx").write_bytes(b"Dear diary, " * 9)
    with pytest.raises(CheckpointError, match="cannot be loaded as ONNX"):
        Predictor(tmp_path / "notes.onnx", requested)


# device="auto"


def test_auto_says_why_it_chose_the_cpu(make_file: MakeFile, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.cuda_in_build()
    monkeypatch.setattr("platform.system", lambda: "Linux")
    machine.without("libcuda.so.1")
    session = Predictor(make_file())
    assert (session.device, session.backend.provider) == ("cpu", device.CPU)
    assert session.device_reason == (
        "Running on the CPU, because no NVIDIA driver is installed (libcuda.so.1 cannot be loaded)."
    )
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(session.predict(image), image.argmax(2))


def test_auto_warns_about_an_unusable_gpu(
    make_file: MakeFile, machine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine.ready()
    machine.without("curand")
    machine.fake_sessions([device.CPU])
    monkeypatch.setattr("platform.system", lambda: "Linux")
    session = Predictor(make_file(), "auto")
    assert session.device == "cpu"
    assert "these CUDA libraries cannot be loaded: libcurand.so.10" in session.device_reason
    assert "CUDA cannot be used, because these CUDA libraries cannot be loaded" in caplog.text


def test_the_cpu_is_used_without_checking_the_gpu(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("device='cpu' must not touch the driver")

    monkeypatch.setattr(nvidia_driver, "read_driver", never)
    assert Predictor(make_file(), "cpu").device == "cpu"


def test_load_library_loads() -> None:
    assert isinstance(nvidia_driver.load_library(ctypes.util.find_library("c") or "msvcrt"), ctypes.CDLL)
