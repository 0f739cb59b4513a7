"""Reads and writes videos frame by frame, with PyAV.

PyAV is installed by the extra `video` and imported when a video is opened. Only a few frames are in memory at a time.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from segzoo._arguments import explained
from segzoo._io import atomic_write
from segzoo._optional import VIDEO, needs
from segzoo.errors import ImageError, SegzooError

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer, OutputContainer

VIDEO_SUFFIXES: frozenset[str] = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv"}
)
"""The file suffixes, in lower case, that `segzoo predict` reads as videos."""

Pixels = npt.NDArray[np.uint8]

# Seconds. The duration in the header and the actual one may differ by the last packet of a stream.
_TOLERANCE = 1.0
_DEFAULT_RATE = Fraction(25)


@explained
def frames(path: "str | os.PathLike[str]", on_damage: Callable[[ImageError], object] | None = None) -> Iterator[Pixels]:
    """The frames of a video in display order, each decoded on demand.

    Frames are rotated as the file specifies. `Predictor.stream` accepts this iterator.

    Args:
        path: a file with at least one video stream; if there are several, the main one is read.
        on_damage: called with an error for each frame that cannot be decoded completely, which is then skipped, and for
            a file that ends early. By default, the first such error is raised, after the frames before it.

    Returns:
        an iterator of uint8 RGB (H, W, 3), 0-255.

    Raises:
        ImageError: immediately, if the file is missing, is not a video, or cannot be decoded by PyAV; during iteration,
            if no frame can be decoded, or on damage.
        MissingPackageError: PyAV is not installed.
    """
    container, stream = _open(Path(path))
    return _frames(container, stream, repr(str(path)), on_damage or _raise)


@explained
def measure(path: "str | os.PathLike[str]") -> tuple[Fraction, int | None]:
    """The mean frame rate of a video in 1/s (25 if the file does not specify it), and its approximate number of frames.

    Raises:
        ImageError, MissingPackageError: as `frames` raises immediately.
    """
    container, stream = _open(Path(path))
    with container:
        rate = stream.average_rate or stream.guessed_rate
        exact = Fraction(rate.numerator, rate.denominator) if rate else _DEFAULT_RATE
        seconds = Fraction(container.duration or 0, 1_000_000)
        return exact, stream.frames or round(seconds * exact) or None


@contextmanager
def written_video(path: Path, rate: Fraction) -> Iterator[Callable[[Pixels], None]]:
    """Yields a function that appends a frame, uint8 RGB (H, W, 3), to a video, which is written atomically.

    The video is H.264 if PyAV has x264, as its wheels do, and MPEG-4 part 2 otherwise. All frames must have the size of
    the first. An odd width or height requires 4:4:4 chroma instead of 4:2:0, which some players do not support.

    Args:
        path: the file to write, with the suffix .mp4.
        rate: frames per second.

    Raises:
        ImageError: no frame was added.
        OSError: the folder cannot be written to.
        MissingPackageError: PyAV is not installed.
        SegzooError: PyAV cannot write the file.
    """
    av = require_av()
    with atomic_write(path) as draft:
        try:
            with av.open(str(draft), "w") as container:
                stream: VideoStream | None = None

                def add(pixels: Pixels) -> None:
                    nonlocal stream
                    if stream is None:
                        stream = _new_stream(container, rate, *pixels.shape[:2])
                    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                    container.mux(stream.encode(frame))

                yield add
                if stream is None:
                    raise ImageError(f"No frame was added to {str(path)!r}.")
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise SegzooError(f"{str(path)!r} cannot be written: {_reason(error)}.") from error


def require_av() -> Any:
    """The module `av`.

    Raises:
        MissingPackageError: PyAV is not installed.
    """
    with needs("Reading and writing videos", VIDEO):
        import av
    return av


def _open(path: Path) -> "tuple[InputContainer, VideoStream]":
    av = require_av()
    name = repr(str(path))
    if path.is_dir():
        raise ImageError(f"{name} is a folder. Pass one video.")
    if not path.is_file():
        raise ImageError(f"There is no video {name}. Check the path.")
    if path.stat().st_size == 0:
        raise ImageError(f"{name} is empty (0 bytes). Download or copy the file again.")
    try:
        container = av.open(str(path))
    except PermissionError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror}. Change its permissions.") from error
    except (av.FFmpegError, UnicodeDecodeError) as error:  # the latter if a title is not UTF-8
        raise ImageError(
            f"{name} is not a video that PyAV can read ({_reason(error)}). Convert it to H.264 in an .mp4 file, or, if "
            "it should be a video, download or copy it again: it may be truncated."
        ) from error
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        container.close()
        reason = "contains no video" if stream is None else "contains video that this PyAV cannot decode"
        raise ImageError(f"{name} {reason}. Convert it to H.264 in an .mp4 file.")
    return container, stream


def _frames(
    container: "InputContainer", stream: "VideoStream", name: str, on_damage: Callable[[ImageError], object]
) -> Iterator[Pixels]:
    av = require_av()
    count = 0

    def damage(reason: str) -> None:
        on_damage(ImageError(f"{name} is damaged after frame {count}: {reason}. Download or copy the file again."))

    with container:
        span = _Span()
        packets = container.demux()
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                damage(f"the rest cannot be read ({_reason(error)})")
                break
            if packet is None:
                seconds = _declared_seconds(container, stream)
                if span.seconds < seconds - max(_TOLERANCE, 0.01 * seconds):
                    damage(f"it ends after {span.seconds:.1f} of {seconds:.1f} s")
                break
            span.add(packet)
            if packet.stream.index != stream.index:
                continue
            try:
                decoded = stream.decode(packet)
            except av.FFmpegError as error:
                damage(f"a frame cannot be decoded ({_reason(error)})")
                continue
            for frame in decoded:
                # The decoder filled in the parts it could not read.
                if frame.is_corrupt:
                    damage("a frame is incomplete")
                    continue
                count += 1
                yield _rotated_pixels(frame)
    if not count:
        raise ImageError(f"{name} contains no frame that can be decoded. Download or copy the file again.")


class _Span:
    """The time span that the packets of all streams cover."""

    def __init__(self) -> None:
        self._start, self._end = math.inf, -math.inf

    def add(self, packet: "Packet[Any]") -> None:
        if packet.pts is not None and packet.time_base:
            unit = packet.time_base.numerator / packet.time_base.denominator
            self._start = min(self._start, packet.pts * unit)
            self._end = max(self._end, (packet.pts + (packet.duration or 0)) * unit)

    @property
    def seconds(self) -> float:
        return max(0.0, self._end - self._start)


def _declared_seconds(container: "InputContainer", stream: "VideoStream") -> float:
    """The duration that the file declares; 0 if it declares none and FFmpeg estimates it from the content."""
    is_declared = stream.frames or stream.duration is None
    return (container.duration or 0) / 1e6 if is_declared else 0.0


def _rotated_pixels(frame: "VideoFrame") -> Pixels:
    pixels = cast(Pixels, frame.to_ndarray(format="rgb24"))
    # Both angles are counterclockwise; cameras rotate in steps of 90 degrees.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _new_stream(container: "OutputContainer", rate: Fraction, height: int, width: int) -> "VideoStream":
    av = require_av()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    # MPEG-4 stores the time base in 16 bits.
    rate = rate.limit_denominator(1001 if codec == "libx264" else max(1, int(65535 // rate)))
    stream = cast("VideoStream", container.add_stream(codec, rate=rate))
    stream.width, stream.height = width, height
    odd = codec == "libx264" and (width % 2 or height % 2)
    stream.pix_fmt = "yuv444p" if odd else "yuv420p"
    if codec == "libx264":
        # Leaves the CPU to the network; slower presets also buffer 40 frames of lookahead.
        stream.options = {"preset": "veryfast"}
    return stream


def _raise(error: ImageError) -> None:
    raise error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
