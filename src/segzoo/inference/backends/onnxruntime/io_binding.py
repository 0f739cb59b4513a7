"""Runs an onnxruntime session on buffers of its device, which are kept from one call to the next.

Without binding, each call on a GPU allocates what it takes and gives. Here inputs are written into buffers on the
device (one a shape), outputs land in buffers that only ever grow, whatever the shape, and stay on the device if that is
wanted. On the CPU a plain `run` shares numpy's memory already, so that `Session` uses this on GPUs alone; the code is
the same for both, and its tests run on the CPU.

Host memory is not pinned. onnxruntime's Python API gives pinned memory only from an allocator that is registered for
the whole process (its issues #25211 and #25212 tell what that does to other sessions), and a batch of uint8 images, a
megabyte or so, is copied in a fraction of a millisecond either way.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

_KINDS = {"tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(float)": np.float32}

# Input buffers kept by each lane; photographs come in a few sizes, and a batch of eight at 1024 x 2048 takes 50 MB.
_SHAPES = 4


class Bound:
    """A session with buffers on its device. Threads may share it: each that runs at the same time gets its own.

    With `graph`, for sessions made with CUDA graphs, there is one set of buffers, at fixed addresses, and one run at a
    time: a graph replays the addresses that it was captured with, and must not be replayed by two threads at once.
    """

    def __init__(
        self, session: ort.InferenceSession, where: tuple[str, int], classes: int, graph: bool = False
    ) -> None:
        """`where` is onnxruntime's name and number of the device: ("cuda", 0), ("cpu", 0)."""
        self._session, self._where, self._classes, self._graph = session, where, classes, graph
        self._input = session.get_inputs()[0].name
        self._kinds = {output.name: np.dtype(_KINDS[output.type]) for output in session.get_outputs()}
        self._lanes: list[_Lane] = []
        self._lock = threading.Lock()
        self._one = threading.Lock()

    def run(
        self, batch: npt.NDArray[Any], outputs: Sequence[str], options: ort.RunOptions | None = None
    ) -> list[npt.NDArray[Any]]:
        """The outputs of that name, as arrays of their own in host memory."""
        with self._lane() as lane:
            values = self._start(lane, batch, outputs, options)
            # On a device numpy() copies; on the CPU it is a view of the buffer, which the next call overwrites.
            return [np.array(value.numpy(), copy=value.device_name() == "cpu") for value in values]

    def run_on_device(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> list[ort.OrtValue]:
        """The outputs of that name, in memory of the device that no later call touches."""
        with self._lane() as lane:
            kept = []
            for value in self._start(lane, batch, outputs, None):
                own = allocate(value.shape(), _KINDS[value.data_type()], self._where)
                own.update_inplace(value)
                kept.append(own)
            return kept

    def _start(
        self, lane: "_Lane", batch: npt.NDArray[Any], outputs: Sequence[str], options: ort.RunOptions | None
    ) -> list[ort.OrtValue]:
        lane.feed(self._input, batch)
        # A graph writes to every address that it was captured with: all are bound, and always in one order.
        names = list(self._kinds) if self._graph else list(outputs)
        lane.receive({name: (self._shape(name, batch.shape), self._kinds[name]) for name in names})
        self._session.run_with_iobinding(lane.binding, options)
        found = dict(zip(names, lane.binding.get_outputs(), strict=True))
        return [found[name] for name in outputs]

    def _shape(self, output: str, batch: tuple[int, ...]) -> tuple[int, ...]:
        images = self._session.get_inputs()[0].type == "tensor(uint8)"
        number, height, width = batch[:3] if images else (batch[0], *batch[2:])
        return (number, self._classes, height, width) if output == "logits" else (number, height, width)

    @contextmanager
    def _lane(self) -> Iterator["_Lane"]:
        if self._graph:
            self._one.acquire()
        try:
            with self._lock:
                lane = self._lanes.pop() if self._lanes else _Lane(self._session, self._where)
            try:
                yield lane
            finally:
                with self._lock:
                    self._lanes.append(lane)
        finally:
            if self._graph:
                self._one.release()


class _Lane:
    """The buffers of one run at a time."""

    def __init__(self, session: ort.InferenceSession, where: tuple[str, int]) -> None:
        self.binding = session.io_binding()
        self._where = where
        self._inputs: OrderedDict[tuple[int, ...], ort.OrtValue] = OrderedDict()
        self._outputs: dict[str, tuple[int, ort.OrtValue]] = {}
        self._bound: dict[str, Any] = {}

    def feed(self, name: str, batch: npt.NDArray[Any]) -> None:
        value = self._inputs.pop(batch.shape, None)
        if value is None:
            value = allocate(batch.shape, batch.dtype, self._where)
        self._inputs[batch.shape] = value
        if len(self._inputs) > _SHAPES:
            self._inputs.popitem(last=False)
        # It waits for the copy: onnxruntime's kernels run in a stream of their own, which would not.
        value.update_inplace(np.ascontiguousarray(batch))
        self.binding.bind_ortvalue_input(name, value)

    def receive(self, wanted: dict[str, tuple[tuple[int, ...], "np.dtype[Any]"]]) -> None:
        if wanted == self._bound:
            return
        self.binding.clear_binding_outputs()
        for name, (shape, kind) in wanted.items():
            size = math.prod(shape) * kind.itemsize
            room, buffer = self._outputs.get(name, (0, None))
            if room < size or buffer is None:
                self._outputs.pop(name, None)
                room, buffer = size, allocate((size,), np.uint8, self._where)
                self._outputs[name] = room, buffer
            self.binding.bind_output(name, *self._where, kind.type, shape, buffer.data_ptr())
        self._bound = dict(wanted)


def allocate(shape: Sequence[int], kind: npt.DTypeLike, where: tuple[str, int]) -> ort.OrtValue:
    """A buffer on a device, not filled with anything."""
    return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(kind).type, *where)
