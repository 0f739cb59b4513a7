"""A session on a GPU is had, proved by a run, or refused; on machines without one most of it is simulated."""

import ctypes.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from segzoo.errors import CheckpointError, DeviceError, SegzooError
from segzoo.inference import Session
from segzoo.inference.backends.onnxruntime import device

MakeFile = Callable[..., Path]
BUILT_FOR_CUDA = device.CUDA in onnxruntime.get_available_providers()
cuda_build = pytest.mark.skipif(not BUILT_FOR_CUDA, reason="the installed onnxruntime is the one for CPUs")


# A session on CUDA


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
    machine: Any,
) -> None:
    machine.ready()
    asked = machine.fake_sessions([device.CUDA, device.CPU])
    session = Session(make_file(**options), asked_for)
    assert (session.device, session.provider, session.why) == (got, device.CUDA, why)
    fixed = "size" in options
    searches = ["HEURISTIC", "EXHAUSTIVE"] if fixed else ["HEURISTIC"]
    for made, search in zip(asked, searches, strict=False):
        # The fallback is off: onnxruntime would go over to the CPU in run() too.
        assert made["enable_fallback"] == 0
        cuda = {"device_id": int(got[-1]), "cudnn_conv_algo_search": search, "use_tf32": 0, "enable_cuda_graph": 0}
        assert made["providers"] == [(device.CUDA, cuda), device.CPU]
    assert asked[len(searches) :] == [{"run": probe}]


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


def test_tensorrt_is_had_and_nothing_else(make_file: MakeFile, machine: Any) -> None:
    machine.ready()
    asked = machine.fake_sessions([device.TENSORRT, device.CUDA, device.CPU])
    session = Session(make_file(), "tensorrt:1")
    assert (session.device, session.provider) == ("tensorrt:1", device.TENSORRT)
    assert [name if isinstance(name, str) else name[0] for name in asked[0]["providers"]] == [
        device.TENSORRT,
        device.CUDA,
        device.CPU,
    ]
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(session.predict(image), image.argmax(2))
    machine.fake_sessions([device.CUDA, device.CPU])
    with pytest.raises(DeviceError, match="device='tensorrt' cannot be had, because"):
        Session(make_file(), "tensorrt")


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
        Session(make_file(), "tensorrt")
    assert f"because TensorRT's library {name} cannot be loaded (cannot open shared object file)" in str(caught.value)
    assert "pip install 'tensorrt-cu13==10.*'" in str(caught.value)


def test_a_build_without_tensorrt(make_file: MakeFile, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.cuda_in_build()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [device.CUDA, device.CPU])
    with pytest.raises(DeviceError, match="built without TensorRT"):
        Session(make_file(), "tensorrt")


@cuda_build
@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf reads what the provider needs")
def test_tensorrt_is_the_one_that_the_provider_needs() -> None:
    provider = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_tensorrt.so"
    lines = subprocess.run(["readelf", "-d", provider], capture_output=True, text=True, check=True).stdout.splitlines()
    needed = {line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line}
    assert {name for name in needed if name.startswith("libnv")} == set(device.tensorrt_libraries("Linux"))


# CUDA graphs and TF32


def test_tf32_is_asked_for(make_file: MakeFile, machine: Any) -> None:
    machine.ready()
    asked = machine.fake_sessions([device.CUDA, device.CPU])
    Session(make_file(), "cuda", tf32=True)
    assert asked[0]["providers"][0][1]["use_tf32"] == 1


def test_cuda_graphs_are_for_one_size(make_file: MakeFile, machine: Any) -> None:
    machine.ready()
    asked = machine.fake_sessions([device.CUDA, device.CPU])
    session = Session(make_file(size=(4, 5), batch=1), "cuda", cuda_graph=True)
    # The first session only tells the size: a graph with free sizes fails to load with CUDA graphs.
    assert [made["providers"][0][1]["enable_cuda_graph"] for made in asked[:2]] == [0, 1]
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(session.predict(image), image.argmax(2))
    with pytest.raises(SegzooError, match="cuda_graph=True needs a file of one size"):
        Session(make_file(), "cuda", cuda_graph=True)


@pytest.mark.parametrize("asked_for", ["cpu", "tensorrt"])
def test_cuda_graphs_need_cuda(asked_for: str, make_file: MakeFile) -> None:
    with pytest.raises(SegzooError, match="cuda_graph=True needs device='cuda'"):
        Session(make_file(), asked_for, cuda_graph=True)


def test_a_session_that_fell_back_is_refused(make_file: MakeFile, machine: Any) -> None:
    machine.ready()
    machine.fake_sessions([device.CPU])
    with pytest.raises(DeviceError, match="fell back to the CPU, although the driver and the CUDA libraries load"):
        Session(make_file(), "cuda")


def test_a_failing_probe_is_refused(make_file: MakeFile, machine: Any) -> None:
    machine.ready()
    machine.fake_sessions([device.CUDA, device.CPU], fails="CUDNN_STATUS_NOT_INITIALIZED")
    with pytest.raises(DeviceError, match=r"small run of the model failed on the GPU \(CUDNN_STATUS_NOT_INITIALIZED\)"):
        Session(make_file(), "cuda")


@pytest.mark.parametrize("asked_for", ["cuda", "auto"])
def test_a_bad_file_is_not_blamed_on_the_gpu(asked_for: str, tmp_path: Path, machine: Any) -> None:
    machine.ready()
    machine.fake_sessions([device.CUDA, device.CPU])
    (tmp_path / "notes.onnx").write_bytes(b"Dear diary, " * 9)
    with pytest.raises(CheckpointError, match="cannot be loaded as ONNX"):
        Session(tmp_path / "notes.onnx", asked_for)


# device="auto"


def test_auto_says_why_it_took_the_cpu(make_file: MakeFile, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.cuda_in_build()
    monkeypatch.setattr("platform.system", lambda: "Linux")
    machine.without("libcuda.so.1")
    session = Session(make_file())
    assert (session.device, session.provider) == ("cpu", device.CPU)
    assert session.why == ("It runs on the CPU, because no NVIDIA driver is installed (libcuda.so.1 cannot be loaded).")
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(session.predict(image), image.argmax(2))


def test_auto_warns_of_a_gpu_that_cannot_be_used(
    make_file: MakeFile, machine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine.ready()
    machine.without("curand")
    machine.fake_sessions([device.CPU])
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
