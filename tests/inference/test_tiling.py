"""Tiled masks equal whole-image masks, in memory that does not grow with the image."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segzoo.errors
from segzoo.errors import ImageError, SegzooError
from segzoo.inference import Predictor, tiling

MakeFile = Callable[..., Path]
Scene = Callable[..., np.ndarray]


# Positions of tiles


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 28, 29, 40, 41, 53, 64, 100, 257])
@pytest.mark.parametrize(("tile", "overlap", "step"), [(16, 4, 1), (16, 8, 4), (16, 0, 1), (33, 16, 8), (24, 12, 8)])
@pytest.mark.parametrize("fixed", [False, True])
def test_weights_sum_to_one(length: int, tile: int, overlap: int, step: int, fixed: bool) -> None:
    spans = tiling.spans(length, tile, overlap, step, fixed)
    total = np.zeros(length)
    for span in spans:
        assert 0 <= span.start <= span.first <= span.done <= span.last <= span.stop <= length
        assert len(span.weight) == span.last - span.first
        assert (span.weight > 0).all()
        assert span.stop - span.start == min(tile, length) or not fixed
        total[span.first : span.last] += span.weight
    assert np.abs(total - 1).max() < 1e-6
    assert (spans[0].start, spans[-1].stop) == (0, length)
    for left, right in itertools.pairwise(spans):
        assert left.stop - right.start >= overlap  # neighbors overlap as requested
        assert left.last - right.start >= overlap // 4  # and stay away from their edges
        assert right.first - right.start >= overlap // 4
        assert (left.done, left.last) == (right.first, right.first + left.last - left.done)
    if not fixed and (tile - overlap) >= step:
        assert all(span.start % step == 0 for span in spans)


# Seams


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [
        ((120, 170), (64, 64), None),
        ((120, 170), 48, 16),
        ((121, 83), (37, 64), (12, 32)),
        ((30, 200), 64, None),
        ((200, 30), 64, None),
        ((20, 20), 64, None),
        ((1, 300), 64, None),
        ((300, 1), (64, 32), None),
        ((1, 1), 64, None),
    ],
)
@pytest.mark.parametrize("size_divisibility", [1, 8])
def test_tiled_masks_equal_the_whole_images(
    size: tuple[int, int], tile: Any, overlap: Any, size_divisibility: int, make_network: MakeFile, scene: Scene
) -> None:
    session = Predictor(make_network(size_divisibility=size_divisibility), "cpu", threads=1)
    image = scene(*size)
    whole = session.predict(image).mask
    tiled = session.predict(image, tile=tile, overlap=overlap).mask
    assert tiled.shape == size
    assert tiled.dtype == np.uint8
    assert (tiled == whole).mean() >= 0.999
    assert np.array_equal(tiled, session.predict(image, tile=tile, overlap=overlap))


def test_the_scene_can_tell_differences(make_network: MakeFile, scene: Scene) -> None:
    """The test above would pass if the network predicted a single class. It must fail without overlap."""
    session = Predictor(make_network(), "cpu", threads=1)
    image = scene(120, 170)
    whole = session.predict(image).mask
    assert len(np.unique(whole)) >= 3
    assert (session.predict(image, tile=32, overlap=0).mask == whole).mean() < 0.999


@pytest.mark.parametrize("batch", ["batch", 1, 2])
@pytest.mark.parametrize("size", [(100, 130), (64, 48), (20, 130), (20, 20)])
def test_a_file_of_fixed_size(size: tuple[int, int], batch: int | str, make_network: MakeFile, scene: Scene) -> None:
    image = scene(*size)
    whole = Predictor(make_network(), "cpu", threads=1).predict(image).mask
    session = Predictor(make_network(size=(64, 48), batch=batch), "cpu", threads=1)
    assert session.backend.static_shape == (batch if isinstance(batch, int) else None, 64, 48)
    tiled = session.predict(image, tile=(64, 48), overlap=(16, 16)).mask
    border = np.zeros(size, bool)
    border[3:-3, 3:-3] = True  # the file pads with the mean color, convolutions with zeros
    assert (tiled == whole)[border | (np.array(size) >= (64, 48)).all()].mean() >= 0.999
    with pytest.raises(SegzooError, match=r"exported for images of \(64, 48\); pass tile=\(64, 48\)"):
        session.predict(image, tile=32)
    with pytest.raises(SegzooError, match="tta can only be 'flip'"):
        session.predict(image, tile=(64, 48), tta=(1, 2))


def test_a_fixed_size_without_tiles_is_refused(make_network: MakeFile, scene: Scene) -> None:
    session = Predictor(make_network(size=(64, 48)), "cpu", threads=1)
    with pytest.raises(ImageError, match=r"got \(60, 48\)\. Pass tile=\(64, 48\)"):
        session.predict(scene(60, 48), tta="flip")


def test_strips_change_nothing(make_network: MakeFile, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Predictor(make_network(), "cpu", threads=1)
    image = scene(150, 400)
    at_once = session.predict(image, tile=32).mask
    monkeypatch.setattr(tiling, "_KEPT_BYTES", 4 * 5 * 4 * 80)
    columns = tiling.spans(400, 32, 8)
    strips = list(tiling.strips(columns, columns, 5))
    assert len(strips) > 3
    assert sorted({index for strip in strips for index in strip}) == list(range(len(columns)))
    assert np.array_equal(session.predict(image, tile=32), at_once)


# Reading and writing


class Lazy:
    """An array like those of zarr and h5py: a shape, a dtype, slices. It records the largest slice."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.largest = array, array.shape, array.dtype, 0

    def __getitem__(self, key: Any) -> np.ndarray:
        part = self.array[key]
        self.largest = max(self.largest, part.size)
        return part


def test_slices_are_read_and_written(make_network: MakeFile, scene: Scene, tmp_path: Path) -> None:
    session = Predictor(make_network(), "cpu", threads=1)
    image = scene(150, 130)
    expected = session.predict(image, tile=64).mask
    lazy = Lazy(image)
    out = np.memmap(tmp_path / "mask", np.uint8, "w+", shape=(150, 130))
    assert session.predict(lazy, tile=64, out=out).mask is out
    assert np.array_equal(out, expected)
    assert lazy.largest <= 64 * 64 * 3
    out[:] = 9
    assert session.predict(image, out=out).mask is out
    assert (out == expected).mean() >= 0.999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 0}, "tile must be a number of pixels"),
        ({"tile": (64,)}, "tile must be a number of pixels"),
        ({"tile": 64.5}, "tile must be a number of pixels"),
        ({"tile": 64, "overlap": -1}, "overlap must be a number of pixels"),
        ({"tile": 64, "overlap": 33}, "overlap must be at most half the tile"),
        ({"overlap": 8}, "overlap= needs tile="),
        ({"tile": 64, "out": np.zeros((70, 80), np.int32)}, r"uint8 \(70, 80\); got int32 \(70, 80\)"),
        ({"out": np.zeros((80, 70), np.uint8)}, r"uint8 \(70, 80\); got uint8 \(80, 70\)"),
        ({"out": []}, "got list"),
    ],
)
def test_invalid_options_are_refused(
    options: dict[str, Any], message: str, make_network: MakeFile, scene: Scene
) -> None:
    with pytest.raises(SegzooError, match=message):
        Predictor(make_network(), "cpu").predict(scene(70, 80), **options)


@pytest.mark.parametrize("options", [{"tile": 32}, {"tta": "flip"}, {"confidence": True}, {"probabilities": True}])
def test_logits_need_not_be_an_output(options: dict[str, Any], make_network: MakeFile, scene: Scene) -> None:
    image = scene(70, 80)
    expected = Predictor(make_network(), "cpu").predict(image, **options)
    predictor = Predictor(make_network(outputs=("mask",), padded_logits="logits"), "cpu")
    assert predictor.backend.graph_outputs == ("mask",)
    result = predictor.predict(image, **options)
    assert np.array_equal(result, expected)
    for name in ("confidence", "probabilities"):
        given, other = getattr(result, name), getattr(expected, name)
        assert (given is None) == (name not in options)
        assert given is None or np.allclose(given, other, atol=1e-6)


@pytest.mark.parametrize("options", [{"tile": 64}, {"tta": "flip"}, {"probabilities": True}])
def test_a_graph_that_does_not_name_its_logits_has_none(
    options: dict[str, Any], make_network: MakeFile, scene: Scene
) -> None:
    predictor = Predictor(make_network(outputs=("mask",)), "cpu")
    with pytest.raises(SegzooError, match=r"cannot be used with '.*network\.onnx', which returns no logits"):
        predictor.predict(scene(9, 9), **options)


def test_with_a_known_context_tiles_are_cut_and_not_blended(scene: Scene) -> None:
    """Each pixel comes from the one tile that has its whole context, even if tiles differ near their edges."""
    image = scene(90, 130)

    def predict(tile: np.ndarray) -> np.ndarray:
        inside = np.zeros(tile.shape[:2], np.float32)
        inside[8:-8, 8:-8] = 1  # what a network with a context of 8 gets right everywhere but at the edges of tiles
        return np.stack([tile[..., 0] * inside, tile[..., 0] * (1 - inside)]).astype(np.float32)

    out = np.zeros((2, 90, 130), np.float32)
    grid = tiling.grid((90, 130), (40, 48), None, 4, context=8)
    for rows, columns, part in tiling.blend(image, predict, 2, grid):
        out[:, rows, columns] += part
    assert np.array_equal(out[0, 8:-8, 8:-8], image[8:-8, 8:-8, 0])
    with pytest.raises(SegzooError, match="tile must be 20 or more for this model"):
        tiling.grid((90, 130), (16, 48), None, 4, context=8)


def test_a_list_is_tiled_one_by_one(make_network: MakeFile, scene: Scene) -> None:
    session = Predictor(make_network(), "cpu", threads=1)
    images = [scene(70, 80, 1), scene(30, 90, 2)]
    for image, result in zip(images, session.predict(images, tile=32), strict=True):
        assert np.array_equal(result, session.predict(image, tile=32))
    with pytest.raises(SegzooError, match="out takes the mask of one image"):
        session.predict(images, out=np.zeros((70, 80), np.uint8))


# Memory

SCRIPT = """
import json, re, sys
import numpy as np
from segzoo.inference import Predictor

path, (height, width, tile) = sys.argv[1], map(int, sys.argv[2:])
session = Predictor(path, "cpu", threads=1)
row = np.random.default_rng(0).integers(0, 256, (64, width, 3), np.uint8)

class Endless:  # takes no memory, so that only the session's memory is measured
    shape, dtype = (height, width, 3), np.dtype(np.uint8)
    def __getitem__(self, key):
        rows, columns = key
        return row[np.arange(rows.start, rows.stop) % 64, columns]

class Counted:
    shape, dtype, total = (height, width), np.dtype(np.uint8), 0
    def __setitem__(self, key, value):
        Counted.total += value.size

session.predict(row[:, :64], tile=256)
# Not resource.getrusage: its peak is the parent's if that was larger at the fork.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before = peak()
session.predict(Endless(), tile=tile, overlap=32, out=Counted())
print(json.dumps([peak() - before, Counted.total]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_depends_on_the_tile_not_on_the_image(make_network: MakeFile) -> None:
    path = make_network(classes=3)
    source = str(Path(segzoo.errors.__file__).parents[1])
    peaks = []
    for height, width, tile in ((1500, 3000, 256), (3000, 3000, 256), (1500, 3000, 3000)):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, path, str(height), str(width), str(tile)],
            env=os.environ | {"PYTHONPATH": source},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        kilobytes, pixels = json.loads(done.stdout)
        assert pixels == height * width
        peaks.append(kilobytes / 1024)
    small, large, whole = peaks  # in MiB
    # The probabilities of the larger image alone would be 103 MiB.
    assert large < 40
    assert abs(large - small) < 8
    assert whole > 100  # otherwise the measurement is meaningless


def test_tiles_lift_the_limit_on_pixels(make_network, tmp_path, monkeypatch):
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    monkeypatch.setenv("SEGZOO_MAX_PIXELS", "59999")
    predictor = Predictor(make_network(), "cpu")
    with pytest.raises(ImageError, match="Predict it in tiles"):
        predictor.predict(tmp_path / "a.png")
    assert predictor.predict(tmp_path / "a.png", tile=64).mask.shape == (200, 300)
