"""Bound buffers give what a plain run gives, for every shape, and are reused. The same code runs on GPUs."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from segzoo.errors import SegzooError
from segzoo.inference import Session
from segzoo.inference.backends.onnxruntime import device, io_binding
from segzoo.inference.backends.onnxruntime.io_binding import Bound

MakeFile = Callable[..., Path]
Scene = Callable[..., np.ndarray]
OUTPUTS = (["labels"], ["logits", "labels"], ["scores"], ["labels", "scores", "logits"])


def has_gpu() -> bool:
    return device.build_obstacle() is None and device.driver_obstacle(0) is None


def plain(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("graph", [False, True])
def test_every_shape_and_output(graph: bool, make_network: MakeFile, scene: Scene) -> None:
    session = plain(make_network())
    bound = Bound(session, ("cpu", 0), 5, graph)
    for number, height, width in [(1, 8, 9), (2, 30, 20), (1, 8, 9), (1, 4, 4), (3, 1, 1)]:
        batch = np.stack([scene(height, width, seed) for seed in range(number)])
        for names in OUTPUTS:
            expected = session.run(names, {"image": batch})
            for found in (bound.run(batch, names), map(np.from_dlpack, bound.run_on_device(batch, names))):
                for ours, theirs in zip(found, expected, strict=True):
                    assert ours.dtype == theirs.dtype
                    assert np.array_equal(ours, theirs)


def test_buffers_are_reused(make_network: MakeFile, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    allocate = io_binding.allocate

    def spy(shape: Any, kind: Any, where: tuple[str, int]) -> Any:
        made.append(tuple(shape))
        return allocate(shape, kind, where)

    monkeypatch.setattr(io_binding, "allocate", spy)
    bound = Bound(plain(make_network()), ("cpu", 0), 5)
    sizes = [(20, 30), (10, 10), (20, 30), (5, 5), (10, 10)]
    for size in sizes:
        bound.run(scene(*size)[None], ["labels"])
    # One input a shape, and one output, which was large enough from the first on.
    assert made == [(1, 20, 30, 3), (600,), (1, 10, 10, 3), (1, 5, 5, 3)]
    del made[:]
    for _ in range(3):
        for size in sizes:
            bound.run(scene(*size)[None], ["labels"])
    assert made == []


def test_results_are_not_overwritten(make_network: MakeFile, scene: Scene) -> None:
    bound = Bound(plain(make_network()), ("cpu", 0), 5)
    (first,) = bound.run(scene(20, 30, 1)[None], ["labels"])
    (kept,) = bound.run_on_device(scene(20, 30, 1)[None], ["labels"])
    before = first.copy()
    bound.run(scene(20, 30, 2)[None], ["labels"])
    assert np.array_equal(first, before)
    assert np.array_equal(kept.numpy(), before)


@pytest.mark.parametrize("graph", [False, True])
def test_threads_share_it(graph: bool, make_network: MakeFile, scene: Scene) -> None:
    session = plain(make_network())
    bound = Bound(session, ("cpu", 0), 5, graph)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for step in range(10):
            batch = scene(8 + seed, 9 + step % 3, seed)[None]
            if not np.array_equal(bound.run(batch, ["labels"])[0], session.run(["labels"], {"image": batch})[0]):
                wrong.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_outputs_left_on_the_device(make_network: MakeFile, scene: Scene) -> None:
    session = Session(make_network(), "cpu")
    batch = scene(20, 30)[None]
    found = session.run_on_device(batch, ["labels", "scores"])
    assert list(found) == ["labels", "scores"]
    assert np.array_equal(np.from_dlpack(found["labels"]), session.run(batch))
    with pytest.raises(SegzooError, match="no output 'depth'"):
        session.run_on_device(batch, ["depth"])


def test_outputs_by_name(make_network: MakeFile, scene: Scene) -> None:
    session = Session(make_network(), "cpu")
    assert session.outputs == ("labels", "scores", "logits")
    found = session.run_outputs(scene(20, 30)[None], ["scores", "labels"])
    assert list(found) == ["scores", "labels"]
    assert (found["scores"] > 0.2).all()
    assert (found["scores"] <= 1).all()
    with pytest.raises(SegzooError, match="Export the model with scores=True"):
        Session(make_network(outputs=("labels",)), "cpu").run_outputs(scene(4, 5)[None], ["scores"])


# Nothing below has run where this was written: no GPU was at hand.


@pytest.mark.skipif(not has_gpu(), reason="this machine has no GPU for CUDA")
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_a_real_gpu_gives_what_the_cpu_gives(cuda_graph: bool, make_network: MakeFile, scene: Scene) -> None:
    path = make_network(size=(20, 30), batch=1) if cuda_graph else make_network()
    ours, theirs = Session(path, "cuda", cuda_graph=cuda_graph), Session(path, "cpu")
    for size in [(20, 30)] if cuda_graph else [(20, 30), (9, 70), (20, 30), (64, 64)]:
        for seed in range(4):  # a graph is captured by the first run and replayed by the others
            batch = scene(*size, seed)[None]
            for names in OUTPUTS:
                here, there = ours.run_outputs(batch, names), theirs.run_outputs(batch, names)
                left = ours.run_on_device(batch, names)
                for name in names:
                    assert left[name].device_name() == "cuda"
                    assert np.array_equal(left[name].numpy(), here[name])
                    if name == "labels":
                        assert (here[name] == there[name]).mean() > 0.999
                    else:
                        assert np.abs(here[name] - there[name]).max() < 1e-3
