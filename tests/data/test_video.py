"""Reading and writing videos."""

import builtins
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import loopback
import numpy as np
import pytest
from clips import cut, film, scene, turn

from segzoo.data import video
from segzoo.data.video import frames, measure, written_video
from segzoo.errors import ImageError, SegzooError

TOLERANCE = 8
"""The change that lossy compression may cause, of 255."""


def close(actual: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two images are equal except for compression artifacts, away from edges."""
    assert actual.shape == expected.shape
    return bool(np.median(np.abs(actual.astype(int) - expected.astype(int))) <= TOLERANCE)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.mov", "clip.ts"])
def test_frames_come_in_order_as_rgb(tmp_path, name):
    original = scene()
    codec = "mpeg2video" if name == "clip.ts" else "mpeg4"
    path = film(tmp_path / name, original, codec, rate=25)
    decoded = list(frames(path))
    assert len(decoded) == 16
    assert all(close(*pair) for pair in zip(decoded, original, strict=True))
    assert decoded[0].dtype == np.uint8 and decoded[0].flags.c_contiguous
    red = decoded[0][4, 4]
    assert red[0] > 200 and max(red[1:]) < 50


def test_b_frames_come_in_display_order(tmp_path):
    original = scene()
    decoded = list(frames(film(tmp_path / "clip.mp4", original, "libx264")))
    assert len(decoded) == 16 and all(close(*pair) for pair in zip(decoded, original, strict=True))


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (5, 200)])
def test_odd_sizes(tmp_path, size):
    decoded = list(frames(film(tmp_path / "clip.mp4", scene(3, size))))
    assert [frame.shape for frame in decoded] == [(*size, 3)] * 3


def test_a_portrait_clip_is_rotated(tmp_path):
    original = scene(3)
    decoded = list(frames(turn(film(tmp_path / "clip.mp4", original))))
    assert [frame.shape for frame in decoded] == [(64, 48, 3)] * 3
    assert close(decoded[0], np.rot90(original[0], -1))
    top_right = decoded[0][4, -4]
    assert top_right[0] > 200 and max(top_right[1:]) < 50


def test_measure_returns_rate_and_frame_count(tmp_path):
    assert measure(film(tmp_path / "clip.mp4", scene(), rate=12)) == (Fraction(12), 16)
    assert measure(film(tmp_path / "clip.mkv", scene(), rate=8)) == (Fraction(8), 16)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_a_truncated_file_gives_its_frames_and_then_an_error(tmp_path, name):
    noise = np.random.default_rng(0)  # so that most of the file is frames, not headers
    path = cut(film(tmp_path / name, [noise.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(16)], rate=2))
    decoded = []
    with pytest.raises(ImageError, match=rf"{name}' is damaged after frame \d+: .*Download or copy the file again"):
        for frame in frames(path):
            decoded.append(frame)
    assert 1 < len(decoded) < 16


def test_damaged_frames_can_be_skipped(tmp_path):
    path = film(tmp_path / "clip.mp4", scene(), "mjpeg")  # each frame is independent and starts with a known marker
    data = path.read_bytes()
    starts = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 16
    broken = bytearray(data)
    broken[starts[5] : starts[6]] = bytes(starts[6] - starts[5])
    path.write_bytes(broken)
    errors: list[ImageError] = []
    decoded = list(frames(path, errors.append))
    original = [frame for number, frame in enumerate(scene()) if number != 5]
    assert len(decoded) == 15 and all(close(*pair) for pair in zip(decoded, original, strict=True))
    assert len(errors) == 1 and "is damaged after frame 5: a frame cannot be decoded" in str(errors[0])


def _text(path: Path) -> None:
    path.write_text("no video\n" * 100)


def _sound(path: Path) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "There is no video"),
        (Path.touch, r"is empty \(0 bytes\)"),
        (Path.mkdir, "is a folder"),
        (_text, "is not a video that PyAV can read"),
        (_sound, "contains no video"),
    ],
)
def test_an_invalid_video_is_an_immediate_error(tmp_path, make, message):
    make(tmp_path / "clip.mp4")
    for read in (frames, measure):
        with pytest.raises(ImageError, match=message):
            read(tmp_path / "clip.mp4")


PLAYLISTS = {
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n",
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile '{url}'\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_file_cannot_name_a_video_on_a_server(tmp_path, name):
    """FFmpeg reads playlists, whatever the file is called. It opens no address that a file on disk contains."""
    path = tmp_path / name
    with loopback.serving() as server:
        path.write_text(PLAYLISTS[name].format(url=server.on("/clip.ts", loopback.well)))
        with pytest.raises(ImageError):
            list(frames(path))
        assert server.asked == []


def test_such_a_playlist_works_if_the_caller_wants_it(tmp_path):
    path = tmp_path / "hls.m3u8"
    with loopback.serving() as server:
        path.write_text(PLAYLISTS[path.name].format(url=server.on("/clip.ts", loopback.well)))
        with pytest.raises(av.FFmpegError):
            av.open(path, options={"protocol_whitelist": "file,http,tcp"})
        assert "/clip.ts" in [path for path, _ in server.asked]


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for use in (lambda: frames("clip.mp4"), lambda: written_video(tmp_path / "clip.mp4", Fraction(8)).__enter__()):
        with pytest.raises(SegzooError, match=r'pip install "segmentation-zoo-runtime\[video\]"'):
            use()
    assert list(tmp_path.iterdir()) == []


def test_importing_the_module_does_not_import_pyav(tmp_path, monkeypatch):
    import importlib.util

    real = builtins.__import__

    def watched(name, *rest):
        assert name.partition(".")[0] != "av"
        return real(name, *rest)

    spec = importlib.util.spec_from_file_location("fresh", video.__file__)
    monkeypatch.setattr(builtins, "__import__", watched)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_only_a_few_frames_are_read_ahead(tmp_path):
    path = film(tmp_path / "clip.mp4", scene(200, (16, 16)))
    rest = frames(path)
    assert isinstance(rest, Iterator)
    import tracemalloc

    tracemalloc.start()
    try:
        count = sum(1 for _ in rest)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 200 and peak < 60 * 16 * 16 * 3


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1)])
def test_a_written_video_contains_the_frames(tmp_path, monkeypatch, codec, size):
    import av

    if codec == "mpeg4":
        monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    original = scene(16, size)
    path = tmp_path / "made.mp4"
    with written_video(path, Fraction(30000, 1001)) as add:
        for frame in original:
            add(frame)
        assert not path.exists()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == {"libx264": "h264"}.get(codec, codec)
        assert (stream.height, stream.width, stream.average_rate) == (*size, Fraction(30000, 1001))
    decoded = list(frames(path))
    assert len(decoded) == 16 and all(close(*pair) for pair in zip(decoded, original, strict=True))
    assert [file.name for file in tmp_path.iterdir()] == ["made.mp4"]


@pytest.mark.parametrize("rate", [Fraction(1, 3), Fraction(120000, 1001), Fraction(1234577, 41177), Fraction(1000)])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_any_frame_rate_is_kept(tmp_path, monkeypatch, codec, rate):
    import av

    if codec == "mpeg4":
        monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    with written_video(tmp_path / "made.mp4", rate) as add:
        for frame in scene(4, (16, 16)):
            add(frame)
    assert float(measure(tmp_path / "made.mp4")[0]) == pytest.approx(float(rate), rel=1e-3)


def test_an_interrupted_video_leaves_the_existing_file(tmp_path):
    path = tmp_path / "made.mp4"
    path.write_text("an earlier one")
    with pytest.raises(KeyboardInterrupt), written_video(path, Fraction(8)) as add:
        add(scene(1)[0])
        raise KeyboardInterrupt
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("made.mp4", "an earlier one")]


def test_a_video_without_frames_is_not_written(tmp_path):
    with pytest.raises(ImageError, match="No frame was added"), written_video(tmp_path / "made.mp4", Fraction(8)):
        pass
    assert list(tmp_path.iterdir()) == []
