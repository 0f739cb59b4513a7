"""Futures: images of several callers share batches, and each error reaches its own caller."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest

import segzoo
from segzoo.classes import ClassSet
from segzoo.errors import ImageError, OptionError, SegzooError, UnknownNameError
from segzoo.inference.batching import Batcher
from segzoo.spec import ModelSpec


class Largest:
    """A pixel's class is its largest channel. The first run waits for a signal; every batch is recorded."""

    def __init__(self, hold: bool = True) -> None:
        self.spec = ModelSpec("largest", None, ClassSet.generic(3))
        self.outputs = frozenset({"mask"})
        self.static_shape = (None, None, None)
        self.device, self.device_reason = "cuda:0", "Running on a fake GPU, because of its batch size."
        self.batches: list[tuple[int, ...]] = []
        self.started, self.go = threading.Event(), threading.Event()
        if not hold:
            self.go.set()

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> dict[str, Any]:
        self.batches.append(images.shape)
        self.started.set()
        assert self.go.wait(20)
        if (images == 255).all((1, 2, 3)).any():
            raise SegzooError("Out of memory.")
        if (images == 254).all((1, 2, 3)).any():
            raise ZeroDivisionError("a fault of the engine")
        return {"mask": images.argmax(3).astype(np.uint8)}


def image(seed: int, height: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (height, 5, 3), np.uint8)


def test_images_that_wait_together_run_together() -> None:
    backend = Largest()
    with segzoo.Predictor(backend) as predictor:
        first = predictor.submit(image(0))
        assert backend.started.wait(20)
        futures: dict[int, Any] = {}

        def call(seed: int) -> None:
            futures[seed] = predictor.submit(image(seed, 4 + seed % 2))

        callers = [threading.Thread(target=call, args=(seed,)) for seed in range(1, 13)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        while len(predictor._batcher._ready) < 12:  # type: ignore[union-attr]
            pass
        backend.go.set()
        assert np.array_equal(first.result(20), image(0).argmax(2))
        for seed, future in futures.items():
            assert np.array_equal(future.result(20), image(seed, 4 + seed % 2).argmax(2))
    assert backend.batches[0] == (1, 4, 5, 3)
    assert sorted(backend.batches[1:]) == [(6, 4, 5, 3), (6, 5, 5, 3)]


def test_first_calls_at_the_same_time_share_one_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Batcher] = []

    def slow(execution: Any) -> Batcher:
        time.sleep(0.05)  # long enough for every caller to arrive
        made.append(Batcher(execution))
        return made[-1]

    monkeypatch.setattr("segzoo.inference.predictor.Batcher", slow)
    with segzoo.Predictor(Largest(hold=False)) as predictor, ThreadPoolExecutor(8) as callers:
        futures = list(callers.map(lambda seed: predictor.submit(image(seed)), range(8)))
        assert all(np.array_equal(future.result(20), image(seed).argmax(2)) for seed, future in enumerate(futures))
    assert len(made) == 1


def test_an_error_reaches_only_its_own_caller() -> None:
    backend = Largest()
    with segzoo.Predictor(backend) as predictor:
        blocked = predictor.submit(image(0))
        assert backend.started.wait(20)
        good = [predictor.submit(image(seed)) for seed in range(3)]
        too_large = predictor.submit(np.full((4, 5, 3), 255, np.uint8))
        fault = predictor.submit(np.full((4, 5, 3), 254, np.uint8))
        gone = predictor.submit("gone.png")
        backend.go.set()
        for seed, future in enumerate([blocked, *good[1:]]):
            assert np.array_equal(future.result(20), image(seed).argmax(2))
        with pytest.raises(SegzooError, match=r"^Out of memory\.$"):
            too_large.result(20)
        with pytest.raises(ZeroDivisionError):
            fault.result(20)
        with pytest.raises(ImageError, match=r"gone\.png"):
            gone.result(20)


def test_what_has_not_run_can_be_canceled() -> None:
    backend = Largest()
    with segzoo.Predictor(backend) as predictor:
        first = predictor.submit(image(0))
        assert backend.started.wait(20)
        second = predictor.submit(image(1))
        assert not first.cancel() and second.cancel()
        backend.go.set()
        first.result(20)
    assert backend.batches == [(1, 4, 5, 3)]


def test_who_waits_for_futures_learns_of_canceled_ones() -> None:
    """Canceled before it was read, after it was read, and while it is read; one of them cannot be read."""
    backend, read, go = Largest(), threading.Semaphore(0), threading.Event()
    with segzoo.Predictor(backend) as predictor:
        execute = predictor._execution.read

        def slow(picture: Any, plan: Any) -> Any:
            read.release()
            assert go.wait(20)
            return execute(picture, plan)

        predictor._execution.read = slow  # type: ignore[method-assign]
        futures = [
            predictor.submit(picture)
            for picture in (image(0), image(1), image(2), "gone.png", *map(image, range(3, 9)))
        ]
        for _ in range(4):  # as many as there are readers: the first four are being read, the others wait
            assert read.acquire(timeout=20)
        canceled = [futures[index] for index in (1, 3, 5, 9)]
        assert all(future.cancel() for future in canceled)
        go.set()
        assert backend.started.wait(20)
        backend.go.set()
        done, waiting = wait(futures, timeout=20)
        assert not waiting and len(done) == 10
        assert [future.cancelled() for future in futures] == [future in canceled for future in futures]
    assert sum(shape[0] for shape in backend.batches) == 6


def test_a_batch_on_a_gpu_holds_eight_images() -> None:
    backend = Largest()
    with segzoo.Predictor(backend) as predictor:
        first = predictor.submit(image(0))
        assert backend.started.wait(20)
        futures = [predictor.submit(image(seed)) for seed in range(1, 20)]
        while len(predictor._batcher._ready) < 19:  # type: ignore[union-attr]
            time.sleep(0.001)
        backend.go.set()
        for seed, future in enumerate([first, *futures]):
            assert np.array_equal(future.result(20), image(seed).argmax(2))
    assert [shape[0] for shape in backend.batches] == [1, 8, 8, 3]
    images = [image(seed) for seed in range(19)]
    for run in (predictor.predict, lambda images: list(predictor.stream(images))):
        backend.batches.clear()
        assert all(map(np.array_equal, run(images), (picture.argmax(2) for picture in images)))
        sizes = [shape[0] for shape in backend.batches]
        assert sum(sizes) == 19 and max(sizes) == 8


def test_options_are_checked_at_once_and_plans_are_not_mixed() -> None:
    backend = Largest(hold=False)
    with segzoo.Predictor(backend) as predictor:
        with pytest.raises(OptionError, match="which returns no logits"):
            predictor.submit(image(0), tile=4)
        with pytest.raises(UnknownNameError, match="Did you mean 'tile'"):
            predictor.submit(image(0), tiles=4)  # type: ignore[call-arg]
        reversed_ = predictor.submit(image(0)[..., ::-1], channel_order="BGR")
        assert np.array_equal(reversed_.result(20), image(0).argmax(2))


def test_closing_waits_stops_the_threads_and_permits_another_start() -> None:
    backend = Largest(hold=False)
    predictor = segzoo.Predictor(backend)
    futures = [predictor.submit(image(seed)) for seed in range(20)]
    predictor.close()
    assert all(future.done() for future in futures)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("segzoo-")] == []
    assert np.array_equal(predictor.submit(image(3)).result(20), image(3).argmax(2))
    predictor.close()
    predictor.close()
