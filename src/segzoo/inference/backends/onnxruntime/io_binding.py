"""Runs an onnxruntime session with I/O binding: buffers on the device that are reused between calls.

Without I/O binding, every call on a GPU allocates memory for inputs and outputs. Here inputs are copied into buffers on
the device (one per shape), and outputs are written to buffers that only grow, whatever the shape, and can stay on the
device. On the CPU a plain `run` shares numpy's memory already, so `OnnxBackend` uses I/O binding only on GPUs. The
code is the same for both, and its tests run on the CPU.

Host memory is not pinned. onnxruntime's Python API provides pinned memory only through an allocator that is registered
for the whole process (its issues #25211 and #25212 describe the effect on other sessions), and copying a batch of uint8
images, about a megabyte, takes a fraction of a millisecond either way.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.inference.backends.onnxruntime import ort

_DTYPES = {"tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(float)": np.float32}

# Input shapes with a buffer each. Photographs come in a few sizes, and a batch of eight at 1024 x 2048 takes 50 MB.
_MAX_SHAPES = 4


class IOBindingRunner:
    """A session with buffers on its device. Thread-safe: concurrent runs use separate buffers.

    With `cuda_graph` there is one set of buffers, at fixed addresses, and one run at a time: a CUDA graph replays the
    addresses that it was captured with, and two threads must not replay it at once.
    """

    def __init__(
        self, session: ort.InferenceSession, device: tuple[str, int], classes: int, cuda_graph: bool = False
    ) -> None:
        """`device` is onnxruntime's name and index: ("cuda", 0), ("cpu", 0)."""
        self._session, self._device, self._classes, self._cuda_graph = session, device, classes, cuda_graph
        self._input = session.get_inputs()[0].name
        self._dtypes = {output.name: np.dtype(_DTYPES[output.type]) for output in session.get_outputs()}
        self._free: list[_Buffers] = []
        self._lock = threading.Lock()
        self._graph_lock = threading.Lock()

    def run(
        self, batch: npt.NDArray[Any], outputs: Sequence[str], options: ort.RunOptions | None = None
    ) -> list[npt.NDArray[Any]]:
        """The named outputs, as new arrays in host memory."""
        with self._buffers() as buffers:
            values = self._run(buffers, batch, outputs, options)
            # On a device numpy() copies; on the CPU it is a view of the buffer, which the next call overwrites.
            return [np.array(value.numpy(), copy=value.device_name() == "cpu") for value in values]

    def run_on_device(self, batch: npt.NDArray[Any], outputs: Sequence[str]) -> list[ort.OrtValue]:
        """The named outputs, copied to device memory that no later call overwrites."""
        with self._buffers() as buffers:
            copies = []
            for value in self._run(buffers, batch, outputs, None):
                copy = allocate(value.shape(), _DTYPES[value.data_type()], self._device)
                copy.update_inplace(value)
                copies.append(copy)
            return copies

    def _run(
        self, buffers: "_Buffers", batch: npt.NDArray[Any], outputs: Sequence[str], options: ort.RunOptions | None
    ) -> list[ort.OrtValue]:
        buffers.feed(self._input, batch)
        # A CUDA graph writes to every address that it was captured with, so all outputs are bound, in a fixed order.
        names = list(self._dtypes) if self._cuda_graph else list(outputs)
        buffers.receive({name: (self._shape(name, batch.shape), self._dtypes[name]) for name in names})
        self._session.run_with_iobinding(buffers.binding, options)
        values = dict(zip(names, buffers.binding.get_outputs(), strict=True))
        return [values[name] for name in outputs]

    def _shape(self, output: str, batch: tuple[int, ...]) -> tuple[int, ...]:
        images = self._session.get_inputs()[0].type == "tensor(uint8)"
        number, height, width = batch[:3] if images else (batch[0], *batch[2:])
        return (number, self._classes, height, width) if output == "logits" else (number, height, width)

    @contextmanager
    def _buffers(self) -> Iterator["_Buffers"]:
        if self._cuda_graph:
            self._graph_lock.acquire()
        try:
            with self._lock:
                buffers = self._free.pop() if self._free else _Buffers(self._session, self._device)
            try:
                yield buffers
            finally:
                with self._lock:
                    self._free.append(buffers)
        finally:
            if self._cuda_graph:
                self._graph_lock.release()


class _Buffers:
    """The buffers of one run."""

    def __init__(self, session: ort.InferenceSession, device: tuple[str, int]) -> None:
        self.binding = session.io_binding()
        self._device = device
        self._inputs: OrderedDict[tuple[int, ...], ort.OrtValue] = OrderedDict()
        self._outputs: dict[str, tuple[int, ort.OrtValue]] = {}
        self._bound: dict[str, Any] = {}

    def feed(self, name: str, batch: npt.NDArray[Any]) -> None:
        value = self._inputs.pop(batch.shape, None)
        if value is None:
            value = allocate(batch.shape, batch.dtype, self._device)
        self._inputs[batch.shape] = value
        if len(self._inputs) > _MAX_SHAPES:
            self._inputs.popitem(last=False)
        # update_inplace waits for the copy; onnxruntime's kernels run in another stream, which would not wait.
        value.update_inplace(np.ascontiguousarray(batch))
        self.binding.bind_ortvalue_input(name, value)

    def receive(self, outputs: dict[str, tuple[tuple[int, ...], "np.dtype[Any]"]]) -> None:
        if outputs == self._bound:
            return
        self.binding.clear_binding_outputs()
        for name, (shape, dtype) in outputs.items():
            size = math.prod(shape) * dtype.itemsize
            capacity, buffer = self._outputs.get(name, (0, None))
            if capacity < size or buffer is None:
                self._outputs.pop(name, None)
                buffer = allocate((size,), np.uint8, self._device)
                self._outputs[name] = size, buffer
            self.binding.bind_output(name, *self._device, dtype.type, shape, buffer.data_ptr())
        self._bound = dict(outputs)


def allocate(shape: Sequence[int], dtype: npt.DTypeLike, device: tuple[str, int]) -> ort.OrtValue:
    """An uninitialized buffer on a device."""
    return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(dtype).type, *device)
