"""`Batcher`: runs images of many callers, those that wait at the same time in one batch."""

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from segzoo.errors import SegzooError
from segzoo.inference.execution import Execution
from segzoo.inference.options import Plan
from segzoo.inference.result import Segmentation
from segzoo.inference.stream import READERS, as_image_error


@dataclass(frozen=True)
class _Item:
    """An image that has been read and waits to run."""

    future: "Future[Segmentation]"
    plan: Plan
    source: Any
    pixels: Any


class Batcher:
    """Reads submitted images in several threads and runs them in one, in the order in which they have been read.

    While a batch runs, others wait; then the first of them runs with those of the same size and plan.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._readers = ThreadPoolExecutor(READERS, "segzoo-read")
        self._runner = ThreadPoolExecutor(1, "segzoo-run")
        self._ready: deque[_Item] = deque()
        self._lock = threading.Lock()

    def submit(self, image: Any, plan: Plan) -> "Future[Segmentation]":
        """The future result of one image."""
        future: Future[Segmentation] = Future()
        self._readers.submit(self._prepare, future, image, plan)
        return future

    def close(self) -> None:
        """Waits for everything that was submitted."""
        self._readers.shutdown(wait=True)
        self._runner.shutdown(wait=True)

    def _prepare(self, future: "Future[Segmentation]", image: Any, plan: Plan) -> None:
        if future.cancelled():
            future.set_running_or_notify_cancel()  # or concurrent.futures.wait and as_completed would wait forever
            return
        try:
            pixels = self._execution.read(image, plan)
        except Exception as error:  # Whatever a decoder raises, the caller must hear of it.
            _fail(future, error if isinstance(error, SegzooError) else as_image_error(error))
            return
        with self._lock:
            self._ready.append(_Item(future, plan, image, pixels))
        # One call for each image: whichever comes first takes all that are ready, and the others find nothing to do.
        self._runner.submit(self._run_ready)

    def _run_ready(self) -> None:
        group = self._take()
        try:
            results = self._run(group) if group else []
        except Exception as error:  # As above; an unexpected error must not leave its caller waiting.
            if len(group) == 1:
                group[0].future.set_exception(error)
                return
            for item in group:  # One of them may be the cause, or all of them may be too large for one run.
                try:
                    item.future.set_result(self._run([item])[0])
                except Exception as own:
                    item.future.set_exception(own)
            return
        for item, result in zip(group, results, strict=True):
            item.future.set_result(result)

    def _run(self, group: list[_Item]) -> list[Segmentation]:
        return self._execution.run([(item.source, item.pixels) for item in group], group[0].plan)

    def _take(self) -> list[_Item]:
        """The first waiting image and others of the same shape and plan, which can no longer be canceled."""
        with self._lock:
            group: list[_Item] = []
            others: deque[_Item] = deque()
            for item in self._ready:
                first = group[0] if group else item
                fits = item.plan == first.plan and item.pixels.shape == first.pixels.shape
                if not fits or len(group) >= self._execution.batch_size(first.plan):
                    others.append(item)
                elif item.future.set_running_or_notify_cancel():
                    group.append(item)
            self._ready = others
        return group


def _fail(future: "Future[Segmentation]", error: SegzooError) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)
