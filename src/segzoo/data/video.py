"""Videos to pictures and back, by PyAV: the frames of a file one by one, and a file written frame by frame.

Floor 0. PyAV is the extra `video`, and is imported once a video is opened. No more than a few frames are ever held.
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

from segzoo._io import written_aside
from segzoo.errors import ImageError, SegzooError

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer, OutputContainer

VIDEO_SUFFIXES: frozenset[str] = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts"}
    | {".webm", ".wmv"}
)
"""The file name endings, in lower case, that `segzoo predict` takes for videos."""

Pixels = npt.NDArray[np.uint8]

# Seconds. What a header says and what is there may differ by the last packet of some stream.
_TOLERANCE = 1.0
_USUAL_RATE = Fraction(25)


def frames(path: "str | os.PathLike[str]", on_damage: Callable[[ImageError], object] | None = None) -> Iterator[Pixels]:
    """The pictures of a video, in the order in which they are shown; each is decoded when it is asked for.

    They are turned upright where the file says how the camera was held. `Session.stream` takes them as they come.

    Args:
        path: a file with at least one video stream; of several the main one is taken.
        on_damage: told of each picture that cannot be decoded whole, and of a file that ends early. Such a picture is
            left out, and the others go on. Unless given, the first damage is raised, after the pictures before it.

    Returns:
        an iterator of uint8 RGB (H, W, 3), 0-255.

    Raises:
        ImageError: at once, when there is no such file, it is no video, or PyAV cannot decode it; while iterating, when
            no picture can be had from it, or on damage.
        SegzooError: PyAV is not installed.
    """
    container, stream = _open(Path(path))
    return _frames(container, stream, repr(str(path)), on_damage or _raise)


def measure(path: "str | os.PathLike[str]") -> tuple[Fraction, int | None]:
    """The mean frame rate in 1/s of a video (25 where the file does not tell), and about how many frames it has.

    Raises:
        ImageError, SegzooError: as `frames` does at once.
    """
    container, stream = _open(Path(path))
    with container:
        rate = stream.average_rate or stream.guessed_rate
        exact = Fraction(rate.numerator, rate.denominator) if rate else _USUAL_RATE
        seconds = Fraction(container.duration or 0, 1_000_000)
        return exact, stream.frames or round(seconds * exact) or None


@contextmanager
def written_video(path: Path, rate: Fraction) -> Iterator[Callable[[Pixels], None]]:
    """Gives a function that adds a frame, uint8 RGB (H, W, 3), to a video that appears whole at the end or not at all.

    The video is H.264 where PyAV has x264, as its wheels do, and MPEG-4 part 2 elsewhere. All its frames have the size
    of the first. An odd width or height makes it 4:4:4, which some players do not show, since 4:2:0 cannot hold it.

    Args:
        path: where to; the ending is .mp4.
        rate: frames in a second.

    Raises:
        ImageError: no frame was added.
        OSError: its folder cannot be written to.
        SegzooError: PyAV is not installed, or cannot write it.
    """
    av = require_av()
    with written_aside(path) as draft:
        try:
            with av.open(str(draft), "w") as container:
                stream: VideoStream | None = None

                def add(pixels: Pixels) -> None:
                    nonlocal stream
                    if stream is None:
                        stream = _new_stream(container, rate, *pixels.shape[:2])
                    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                    container.mux(stream.encode(picture))

                yield add
                if stream is None:
                    raise ImageError(f"No frame was added to {str(path)!r}.")
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise SegzooError(f"{str(path)!r} cannot be written: {_reason(error)}.") from error


def require_av() -> Any:
    """The module of PyAV.

    Raises:
        SegzooError: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise SegzooError(
            'Videos are read by PyAV, which is not installed. Run: pip install "segmentation-zoo[video]"'
        ) from None
    return av


def _open(path: Path) -> "tuple[InputContainer, VideoStream]":
    av = require_av()
    what = repr(str(path))
    if path.is_dir():
        raise ImageError(f"{what} is a folder. Pass one video.")
    if not path.is_file():
        raise ImageError(f"There is no video {what}. Check the path.")
    if path.stat().st_size == 0:
        raise ImageError(f"{what} is empty (0 bytes). Fetch or copy the file again.")
    try:
        container = av.open(str(path))
    except PermissionError as error:
        raise ImageError(f"{what} may not be read: {error.strerror}. Change its permissions.") from error
    except (av.FFmpegError, UnicodeDecodeError) as error:  # the latter where a title is not in UTF-8
        raise ImageError(
            f"{what} is not a video that PyAV can read ({_reason(error)}). Convert it to H.264 in an .mp4 file, or, if "
            "its name promises a video, fetch or copy it again: it may be cut off."
        ) from error
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        container.close()
        reason = "holds no video" if stream is None else "holds video of a kind that this PyAV cannot decode"
        raise ImageError(f"{what} {reason}. Convert it to H.264 in an .mp4 file.")
    return container, stream


def _frames(
    container: "InputContainer", stream: "VideoStream", what: str, on_damage: Callable[[ImageError], object]
) -> Iterator[Pixels]:
    av = require_av()
    good = 0

    def damage(reason: str) -> None:
        on_damage(ImageError(f"{what} is damaged after frame {good}: {reason}. Fetch or copy the file again."))

    with container:
        span = _Span()
        packets = container.demux()
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                damage(f"nothing beyond can be read ({_reason(error)})")
                break
            if packet is None:
                seconds = _declared(container, stream)
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
                # The decoder has filled in what it could not read.
                if frame.is_corrupt:
                    damage("a frame is incomplete")
                    continue
                good += 1
                yield _upright(frame)
    if not good:
        raise ImageError(f"{what} holds no frame that can be decoded. Fetch or copy the file again.")


class _Span:
    """From when to when the packets of all streams reach."""

    def __init__(self) -> None:
        self._begin, self._end = math.inf, -math.inf

    def add(self, packet: "Packet[Any]") -> None:
        if packet.pts is not None and packet.time_base:
            unit = packet.time_base.numerator / packet.time_base.denominator
            self._begin = min(self._begin, packet.pts * unit)
            self._end = max(self._end, (packet.pts + (packet.duration or 0)) * unit)

    @property
    def seconds(self) -> float:
        return max(0.0, self._end - self._begin)


def _declared(container: "InputContainer", stream: "VideoStream") -> float:
    """How long the file says that it is; 0 where it says nothing, and FFmpeg guesses from what is there."""
    says = stream.frames or stream.duration is None
    return (container.duration or 0) / 1e6 if says else 0.0


def _upright(frame: "VideoFrame") -> Pixels:
    pixels = cast(Pixels, frame.to_ndarray(format="rgb24"))
    # Counterclockwise, both; cameras turn by quarters.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _new_stream(container: "OutputContainer", rate: Fraction, height: int, width: int) -> "VideoStream":
    av = require_av()
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    # MPEG-4 counts time in 16 bits.
    rate = rate.limit_denominator(1001 if codec == "libx264" else max(1, int(65535 // rate)))
    stream = cast("VideoStream", container.add_stream(codec, rate=rate))
    stream.width, stream.height = width, height
    odd = codec == "libx264" and (width % 2 or height % 2)
    stream.pix_fmt = "yuv444p" if odd else "yuv420p"
    if codec == "libx264":
        # The network needs the processor more, and slower ones look ahead at 40 frames and hold them.
        stream.options = {"preset": "veryfast"}
    return stream


def _raise(error: ImageError) -> None:
    raise error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
