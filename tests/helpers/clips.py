"""Small videos, written with PyAV and not with segzoo."""

import struct
from pathlib import Path

import av
import numpy as np


def scene(count: int = 16, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """Frames, uint8 (H, W, 3), each with a different gray value and a red top left quarter."""
    frames = []
    for number in range(count):
        frame = np.full((*size, 3), (10 + 12 * number) % 250, np.uint8)
        frame[: size[0] // 2, : size[1] // 2] = (250, 5, 5)
        frames.append(frame)
    return frames


def film(path: Path, frames: list[np.ndarray], codec: str = "mpeg4", rate: int = 8) -> Path:
    """Writes the frames. An .mp4 starts with its header, so that it can be truncated."""
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 2_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    """Truncates a file, as a full disk or an interrupted copy does."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def turn(path: Path) -> Path:
    """Marks an .mp4 like one from a phone held upright: to be shown rotated clockwise by 90 degrees."""
    data = path.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    track = data.index(b"tkhd")
    # x, to the right, maps to down; y, down, maps to the left.
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    offset = data.index(upright, track)
    path.write_bytes(data[:offset] + turned + data[offset + len(turned) :])
    return path
