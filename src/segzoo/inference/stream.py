"""Runs many images: reading, decoding and running overlap, results keep their order, and memory stays bounded."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from segzoo.data.images import Pixels
from segzoo.errors import ImageError, SegzooError
from segzoo.inference.result import Segmentation

Source = TypeVar("Source")
Read = Callable[[Any], Pixels]
Run = Callable[[list[tuple[Any, Pixels]]], list[Segmentation]]
"""Predicts images of equal shape: pairs of the image as it was passed and its pixels."""

READERS = 4
"""Pillow releases the GIL while it decodes; four threads decode JPEGs as fast as a GPU runs them."""

READ_AHEAD = 2**29
"""Bytes of pixels that are held beyond the image that runs: seven photographs of 24 megapixels."""

EXPECTED = 2**26
"""Bytes that an image is expected to have before the first has been read."""


@dataclass(frozen=True)
class Result(Generic[Source]):
    """The result of one image: either `value` or `error` is set, never both.

    Attributes:
        source: the image as it was passed: its path, the PIL image or the array.
        value: what was predicted.
        error: why the image could not be read or run.
    """

    source: Source
    value: Segmentation | None
    error: SegzooError | None


@dataclass
class _Slot(Generic[Source]):
    source: Source
    pixels: "Future[Pixels]"
    result: Result[Source] | None = field(default=None)


def run_list(images: Sequence[Any], read: Read, run: Run, batch: int) -> list[Segmentation]:
    """The results of `images`, in order. Images of equal size run together wherever they are. Errors are raised."""
    results: dict[int, Segmentation] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, Pixels]]] = {}

    def finish(shape: tuple[int, ...]) -> int:
        """The bytes that are freed."""
        group = waiting.pop(shape)
        predicted = run([(images[index], pixels) for index, pixels in group])
        results.update(zip((index for index, _ in group), predicted, strict=True))
        return _size(pixels for _, pixels in group)

    held = 0
    # Images are read one by one, since 10,000 photographs do not fit into memory.
    for index, image in enumerate(images):
        pixels = read(image)
        group = waiting.setdefault(pixels.shape, [])
        group.append((index, pixels))
        held += _size([pixels])
        if len(group) == batch:
            held -= finish(pixels.shape)
        elif held > READ_AHEAD:
            # With images of many sizes, groups would wait for their last image without end.
            held -= finish(max(waiting, key=lambda shape: _size(pixels for _, pixels in waiting[shape])))
    for shape in list(waiting):
        finish(shape)
    return [results[index] for index in range(len(images))]


def stream(images: Iterable[Source], read: Read, run: Run, batch: int) -> Generator[Result[Source]]:
    """Yields the results of any number of images, in order.

    While the caller uses one result, the next group runs in one thread, and the images after it are read in others. At
    most three groups are taken from `images` ahead of the current result; images of equal size among them run together.
    Fewer are taken if their pixels, and those that the images still being read are expected to have, exceed
    `READ_AHEAD` bytes; one is always taken. An image is expected to be as large as the largest so far.
    Closing or deleting the generator stops its threads.

    Args:
        images: advanced in the caller's thread.
        read: reads the pixels of one image; called from more than one thread at once.
        run: predicts images of equal shape, at most `batch`; called from one thread.
        batch: how many images run together, 1 or more.
    """
    remaining = iter(images)
    slots: deque[_Slot[Source]] = deque()
    readers = ThreadPoolExecutor(min(READERS, batch + 1), "segzoo-read")
    runner = ThreadPoolExecutor(1, "segzoo-run")
    current: Future[list[tuple[_Slot[Source], Result[Source]]]] | None = None
    try:
        while True:
            while len(slots) < 3 * batch and (not slots or _in_flight(slots) < READ_AHEAD):
                try:
                    source = next(remaining)
                except StopIteration:
                    break
                slots.append(_Slot(source, readers.submit(read, source)))
            if not slots:
                return
            if current is not None and current.done():
                # Here and not in the thread: the next group must have started before a result of this one is yielded.
                for slot, result in current.result():  # raises errors of our own code
                    slot.result = result
                current = None
            if current is None:
                waiting = [slot for slot in slots if slot.result is None]
                if waiting:
                    current = runner.submit(_run_group, waiting, run, batch)
            first = slots[0].result
            if first is not None:
                slots.popleft()
                yield first
            elif current is not None:
                wait([current])
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        runner.shutdown(wait=True, cancel_futures=True)


def _in_flight(slots: Iterable[_Slot[Any]]) -> int:
    """The bytes of the pixels that have been read, and of those that are being read if all are as large as these."""
    read = [slot.pixels for slot in slots if slot.pixels.done() and slot.pixels.exception() is None]
    sizes = [_size([future.result()]) for future in read]
    pending = sum(not slot.pixels.done() for slot in slots)
    return sum(sizes) + pending * max(sizes, default=EXPECTED)


def _size(images: Iterable[Any]) -> int:
    """Bytes in memory; 0 for what is read later, in tiles."""
    return sum(image.nbytes for image in images if isinstance(image, np.ndarray) and not isinstance(image, np.memmap))


def _run_group(waiting: list[_Slot[Source]], run: Run, batch: int) -> list[tuple[_Slot[Source], Result[Source]]]:
    """The results of the first waiting image and of up to `batch` - 1 later ones of the same shape."""
    results: list[tuple[_Slot[Source], Result[Source]]] = []
    group: list[tuple[_Slot[Source], Pixels]] = []
    for slot in waiting:
        try:
            pixels = slot.pixels.result()
        except SegzooError as error:
            results.append((slot, Result(slot.source, None, error)))
            continue
        except Exception as error:  # Whatever a decoder raises, one bad image must not end a stream of thousands.
            results.append((slot, Result(slot.source, None, as_image_error(error))))
            continue
        if not group or pixels.shape == group[0][1].shape:
            group.append((slot, pixels))
        if len(group) == batch:
            break
    try:
        predicted = run([(slot.source, pixels) for slot, pixels in group]) if group else []
    except SegzooError as error:
        # For example out of memory. Running the images one by one may work, and shows which ones fail.
        if len(group) == 1:
            return [*results, (group[0][0], Result(group[0][0].source, None, error))]
        return sum((_run_group([slot], run, 1) for slot, _ in group), results)
    return results + [
        (slot, Result(slot.source, value, None)) for (slot, _), value in zip(group, predicted, strict=True)
    ]


def as_image_error(error: Exception) -> ImageError:
    """An unexpected error of a decoder, as an error of the image."""
    wrapped = ImageError(f"The image cannot be read: {type(error).__name__}: {error}.")
    wrapped.__cause__ = error
    return wrapped
