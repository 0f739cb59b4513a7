"""Many images through one session: read, decoded and run at the same time, given back in order, none kept for long."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from segzoo.errors import ImageError, SegzooError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8] | npt.NDArray[np.int32]
Source = TypeVar("Source")

# Pillow lets other threads run while it decodes; four decode JPEGs as fast as a GPU takes them.
_READERS = 4


@dataclass(frozen=True)
class Result(Generic[Source]):
    """What became of one image: exactly one of `labels` and `error` is there.

    Attributes:
        source: the image as it was given: its path, the PIL image or the array.
        labels: class ids (H, W), uint8, or int32 where there are more than 256 classes.
        error: why there are none.
    """

    source: Source
    labels: Labels | None
    error: SegzooError | None


@dataclass
class _Slot(Generic[Source]):
    source: Source
    pixels: "Future[Pixels]"
    result: Result[Source] | None = field(default=None)


def run_list(
    images: Sequence[Any],
    read: Callable[[Any], Pixels],
    run: Callable[[list[Pixels]], list[Labels]],
    batch: int,
) -> list[Labels]:
    """The labels of all `images`, in order; those of one size run together, wherever they stand. Errors are raised."""
    results: dict[int, Labels] = {}

    def finish(group: list[tuple[int, Pixels]]) -> None:
        found = run([pixels for _, pixels in group])
        results.update(zip((place for place, _ in group), found, strict=True))

    waiting: dict[tuple[int, ...], list[tuple[int, Pixels]]] = {}
    # Images are read as they are needed: a folder of 10,000 photographs does not fit into memory.
    for place, one in enumerate(images):
        pixels = read(one)
        group = waiting.setdefault(pixels.shape, [])
        group.append((place, pixels))
        if len(group) == batch:
            finish(waiting.pop(pixels.shape))
    for group in waiting.values():
        finish(group)
    return [results[place] for place in range(len(images))]


def stream(
    images: Iterable[Source],
    read: Callable[[Any], Pixels],
    run: Callable[[list[Pixels]], list[Labels]],
    batch: int,
) -> Iterator[Result[Source]]:
    """The results of `images`, in their order, however many there are.

    While the caller holds one result, the next group runs in one thread, and the images after it are read in others.
    Never more than three groups are taken from `images` ahead of the result that is given. Images of one size among
    them are run together. Closing the generator, or dropping it, ends its threads.

    Args:
        images: called for its next image in the caller's own thread.
        read: one image to its pixels; called in several threads at once.
        run: images of one shape, at most `batch`, to their labels; called in one thread.
        batch: how many images run together, from 1 up.
    """
    rest = iter(images)
    slots: deque[_Slot[Source]] = deque()
    readers = ThreadPoolExecutor(min(_READERS, batch + 1), "segzoo-read")
    runner = ThreadPoolExecutor(1, "segzoo-run")
    flight: Future[None] | None = None
    try:
        while True:
            while len(slots) < 3 * batch:
                try:
                    source = next(rest)
                except StopIteration:
                    break
                slots.append(_Slot(source, readers.submit(read, source)))
            if not slots:
                return
            if flight is not None and flight.done():
                flight.result()  # raises what went wrong in our own code
                flight = None
            if flight is None:
                waiting = [slot for slot in slots if slot.result is None]
                if waiting:
                    flight = runner.submit(_run_group, waiting, run, batch)
            first = slots[0].result
            if first is not None:
                slots.popleft()
                yield first
            elif flight is not None:
                flight.result()
                flight = None
    finally:
        readers.shutdown(wait=True, cancel_futures=True)
        runner.shutdown(wait=True, cancel_futures=True)


def _run_group(waiting: list[_Slot[Source]], run: Callable[[list[Pixels]], list[Labels]], batch: int) -> None:
    """Gives results to the first image that waits, and to those after it that are of the same shape."""
    group: list[tuple[_Slot[Source], Pixels]] = []
    for slot in waiting:
        try:
            pixels = slot.pixels.result()
        except SegzooError as error:
            slot.result = Result(slot.source, None, error)
            continue
        except Exception as error:  # One bad image must not end a stream of thousands, whatever a decoder raises.
            slot.result = Result(slot.source, None, _unforeseen(error))
            continue
        if not group or pixels.shape == group[0][1].shape:
            group.append((slot, pixels))
        if len(group) == batch:
            break
    try:
        found = run([pixels for _, pixels in group]) if group else []
    except SegzooError as error:
        # Out of memory, say: one by one may go, and tells which images do not.
        if len(group) > 1:
            for slot, _ in group:
                _run_group([slot], run, 1)
        else:
            group[0][0].result = Result(group[0][0].source, None, error)
        return
    for (slot, _), labels in zip(group, found, strict=True):
        slot.result = Result(slot.source, labels, None)


def _unforeseen(error: Exception) -> ImageError:
    wrapped = ImageError(f"The image cannot be read: {type(error).__name__}: {error}.")
    wrapped.__cause__ = error
    return wrapped
