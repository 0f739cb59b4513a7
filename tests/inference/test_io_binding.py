"""I/O binding returns what a plain run returns, for every shape, and reuses buffers. GPUs run the same code."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from segzoo.errors import SegzooError
from segzoo.inference import EngineOptions, OnnxBackend
from segzoo.inference.backends.onnxruntime import device, io_binding
from segzoo.inference.backends.onnxruntime.io_binding import IOBindingRunner

MakeFile = Callable[..., Path]
Scene = Callable[..., np.ndarray]
OUTPUTS = (["mask"], ["logits", "mask"], ["confidence"], ["mask", "confidence", "logits"])


def has_gpu() -> bool:
    return device.build_issue() is None and device.driver_issue(0) is None


def plain(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_every_shape_and_output(cuda_graph: bool, make_network: MakeFile, scene: Scene) -> None:
    session = plain(make_network())
    runner = IOBindingRunner(session, ("cpu", 0), 5, cuda_graph)
    for number, height, width in [(1, 8, 9), (2, 30, 20), (1, 8, 9), (1, 4, 4), (3, 1, 1)]:
        batch = np.stack([scene(height, width, seed) for seed in range(number)])
        for names in OUTPUTS:
            expected = session.run(names, {"image": batch})
            for values in (runner.run(batch, names), map(np.from_dlpack, runner.run_on_device(batch, names))):
                for ours, theirs in zip(values, expected, strict=True):
                    assert ours.dtype == theirs.dtype
                    assert np.array_equal(ours, theirs)


def test_buffers_are_reused(make_network: MakeFile, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    allocated: list[tuple[int, ...]] = []
    allocate = io_binding.allocate

    def spy(shape: Any, dtype: Any, target: tuple[str, int]) -> Any:
        allocated.append(tuple(shape))
        return allocate(shape, dtype, target)

    monkeypatch.setattr(io_binding, "allocate", spy)
    runner = IOBindingRunner(plain(make_network()), ("cpu", 0), 5)
    sizes = [(20, 30), (10, 10), (20, 30), (5, 5), (10, 10)]
    for size in sizes:
        runner.run(scene(*size)[None], ["mask"])
    # One input per shape, and one output, large enough from the start.
    assert allocated == [(1, 20, 30, 3), (600,), (1, 10, 10, 3), (1, 5, 5, 3)]
    del allocated[:]
    for _ in range(3):
        for size in sizes:
            runner.run(scene(*size)[None], ["mask"])
    assert allocated == []


def test_results_are_not_overwritten(make_network: MakeFile, scene: Scene) -> None:
    runner = IOBindingRunner(plain(make_network()), ("cpu", 0), 5)
    (first,) = runner.run(scene(20, 30, 1)[None], ["mask"])
    (kept,) = runner.run_on_device(scene(20, 30, 1)[None], ["mask"])
    before = first.copy()
    runner.run(scene(20, 30, 2)[None], ["mask"])
    assert np.array_equal(first, before)
    assert np.array_equal(kept.numpy(), before)


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_threads_share_it(cuda_graph: bool, make_network: MakeFile, scene: Scene) -> None:
    session = plain(make_network())
    runner = IOBindingRunner(session, ("cpu", 0), 5, cuda_graph)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for step in range(10):
            batch = scene(8 + seed, 9 + step % 3, seed)[None]
            if not np.array_equal(runner.run(batch, ["mask"])[0], session.run(["mask"], {"image": batch})[0]):
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_outputs_left_on_the_device(make_network: MakeFile, scene: Scene) -> None:
    session = OnnxBackend(make_network(), "cpu")
    batch = scene(20, 30)[None]
    values = session.run_on_device(batch, ["mask", "confidence"])
    assert list(values) == ["mask", "confidence"]
    assert np.array_equal(np.from_dlpack(values["mask"]), session.run(batch)["mask"])
    with pytest.raises(SegzooError, match="no output 'depth'"):
        session.run_on_device(batch, ["depth"])


def test_outputs_by_name(make_network: MakeFile, scene: Scene) -> None:
    session = OnnxBackend(make_network(), "cpu")
    assert session.graph_outputs == ("mask", "confidence", "logits")
    arrays = session.run(scene(20, 30)[None], ["confidence", "mask"])
    assert list(arrays) == ["confidence", "mask"]
    assert (arrays["confidence"] > 0.2).all()
    assert (arrays["confidence"] <= 1).all()
    with pytest.raises(SegzooError, match="Export the model with confidence=True"):
        OnnxBackend(make_network(outputs=("mask",)), "cpu").run(scene(4, 5)[None], ["confidence"])


# Not yet run on a GPU.
@pytest.mark.skipif(not has_gpu(), reason="this machine has no GPU for CUDA")
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_a_real_gpu_gives_what_the_cpu_gives(cuda_graph: bool, make_network: MakeFile, scene: Scene) -> None:
    path = make_network(size=(20, 30), batch=1) if cuda_graph else make_network()
    gpu, cpu = OnnxBackend(path, "cuda", EngineOptions(cuda_graph=cuda_graph)), OnnxBackend(path, "cpu")
    for size in [(20, 30)] if cuda_graph else [(20, 30), (9, 70), (20, 30), (64, 64)]:
        for seed in range(4):  # a graph is captured by the first run and replayed by the others
            batch = scene(*size, seed)[None]
            for names in OUTPUTS:
                actual, expected = gpu.run(batch, names), cpu.run(batch, names)
                on_device = gpu.run_on_device(batch, names)
                for name in names:
                    assert on_device[name].device_name() == "cuda"
                    assert np.array_equal(on_device[name].numpy(), actual[name])
                    if name == "mask":
                        assert (actual[name] == expected[name]).mean() > 0.999
                    else:
                        assert np.abs(actual[name] - expected[name]).max() < 1e-3
