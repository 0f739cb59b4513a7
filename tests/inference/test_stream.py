"""A stream yields every image's result in order, reads little ahead, and leaves no threads behind."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from segzoo.errors import ImageError, SegzooError
from segzoo.inference import Predictor
from segzoo.inference.stream import run_list

MakeFile = Callable[..., Path]


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def segzoo_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("segzoo-")]


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("container", [list, iter])
def test_order_is_kept_and_sizes_are_batched(
    batch: int | None, container: Any, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[int, ...]] = []
    run = onnxruntime.InferenceSession.run

    def spy(self: Any, names: Any, feed: dict[str, np.ndarray]) -> Any:
        runs.append(feed["image"].shape)
        return run(self, names, feed)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", spy)
    images = [random_image(4 + seed % 2, 5, seed) for seed in range(50)]
    results = list(Predictor(make_file(), "cpu").stream(container(images), batch_size=batch))
    assert len(results) == 50
    for image, result in zip(images, results, strict=True):
        assert result.image is image
        assert np.array_equal(result.mask, image.argmax(2))
    assert max(shape[0] for shape in runs) == (batch or 1)
    assert len(runs) < 50 or batch != 3
    assert segzoo_threads() == []


class Endless(Iterator[np.ndarray]):
    """Images without end, 60 bytes each, and how many have been taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __next__(self) -> np.ndarray:
        self.taken += 1
        return random_image(4, 5, self.taken)


def test_little_is_read_ahead(make_file: MakeFile) -> None:
    endless = Endless()
    results = Predictor(make_file(), "cpu").stream(endless, batch_size=2)
    assert endless.taken == 0
    for received in range(1, 30):
        next(results)
        assert endless.taken <= received + 6
    results.close()  # type: ignore[attr-defined]
    assert segzoo_threads() == []


def test_a_bad_image_is_reported_and_the_stream_continues(make_file: MakeFile, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG and so on")
    images: list[Any] = [
        random_image(4, 5),
        tmp_path / "broken.png",
        random_image(5, 4),
        7,
        random_image(4, 5),
        "gone.png",
    ]
    failed: list[Any] = []
    results = list(Predictor(make_file(), "cpu").stream(images, on_error=lambda *failure: failed.append(failure)))
    assert [result.image is images[index] for result, index in zip(results, (0, 2, 4), strict=True)] == 3 * [True]
    assert [source for source, _ in failed] == [tmp_path / "broken.png", 7, "gone.png"]
    assert "broken.png" in str(failed[0][1])
    assert isinstance(failed[1][1], ImageError)
    with pytest.raises(ImageError, match=r"broken\.png"):
        list(Predictor(make_file(), "cpu").stream(images))
    assert segzoo_threads() == []


def test_a_run_that_fails_is_reported(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image of a batch is too large for the memory: the others run without it."""
    run = onnxruntime.InferenceSession.run

    def fail(self: Any, names: Any, feed: dict[str, np.ndarray]) -> Any:
        if (feed["image"] == 255).all((1, 2, 3)).any():
            raise RuntimeError("Failed to allocate memory.")
        return run(self, names, feed)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", fail)
    images = [random_image(4, 5, seed) for seed in range(5)]
    images[2] = np.full((4, 5, 3), 255, np.uint8)
    failed: list[Any] = []
    predictor = Predictor(make_file(), "cpu")
    results = list(predictor.stream(images, batch_size=8, on_error=lambda *failure: failed.append(failure)))
    assert len(results) == 4 and all(result.image is not images[2] for result in results)
    ((source, error),) = failed
    assert source is images[2] and "Failed to allocate memory" in str(error)


def test_a_decoder_may_raise_anything(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Any, channels: int, channel_order: str, *_: Any) -> Any:
        raise MemoryError("no more")

    monkeypatch.setattr("segzoo.inference.execution.read_image", fail)
    with pytest.raises(ImageError, match=r"^The image cannot be read: MemoryError: no more\.$"):
        list(Predictor(make_file(), "cpu").stream([random_image(4, 5)]))


def test_errors_of_the_iterator_are_raised(make_file: MakeFile) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield random_image(4, 5)
        raise ValueError("the camera is gone")

    with pytest.raises(ValueError, match="the camera is gone"):
        list(Predictor(make_file(), "cpu").stream(broken()))
    assert segzoo_threads() == []


def test_reading_and_running_overlap(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step waits until the step before it works on a later image, which sequential steps never do."""
    images, started, changed = 6, {"read": 0, "run": 0}, threading.Condition()
    run = onnxruntime.InferenceSession.run

    def start(step: str) -> int:
        with changed:
            started[step] += 1
            changed.notify_all()
            return started[step]

    def wait_for(step: str, number: int) -> None:
        with changed:
            assert changed.wait_for(lambda: started[step] >= min(number, images), timeout=20), f"no {step} {number}"

    def waiting_run(self: Any, names: Any, feed: dict[str, np.ndarray]) -> Any:
        wait_for("read", start("run") + 1)
        return run(self, names, feed)

    def counted_read(image: Any, channels: int, channel_order: str, *_: Any) -> Any:
        start("read")
        return image

    session = Predictor(make_file(), "cpu", threads=1)
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", waiting_run)
    monkeypatch.setattr("segzoo.inference.execution.read_image", counted_read)
    masks = session.stream([random_image(4, 5, seed) for seed in range(images)], batch_size=1)
    for number, _ in enumerate(masks, 1):
        wait_for("run", number + 1)
    assert started == {"read": images, "run": images}


def test_a_folder(make_file: MakeFile, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    (folder / "below").mkdir(parents=True)
    for name in ("b.png", "a.png", "below/c.png"):
        Image.fromarray(random_image(4, 5, ord(name[-5]))).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    session = Predictor(make_file(), "cpu")
    for path in (folder, str(folder)):
        results = list(session.stream(path))
        assert [result.path.name for result in results] == ["a.png", "b.png", "c.png"]
        for result in results:
            expected = random_image(4, 5, ord(result.path.stem)).argmax(2)
            assert np.array_equal(result.mask, expected)
    assert len(list(session.stream(folder / "a.png"))) == 1
    with pytest.raises(ImageError, match="There is no file or folder"):
        session.stream(tmp_path / "gone")


def test_streams_of_tiles(make_network: MakeFile, scene: Callable[..., np.ndarray]) -> None:
    session = Predictor(make_network(), "cpu", threads=1)
    images = [scene(40, 50, 1), scene(20, 70, 2)]
    for image, result in zip(images, session.stream(images, tile=32, tta="flip"), strict=True):
        assert np.array_equal(result.mask, session.predict(image, tile=32, tta="flip"))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (random_image(4, 5), {}, "got one ndarray"),
        (Image.new("RGB", (4, 5)), {}, "got one Image"),
        (7, {}, "got one int"),
        ([], {"batch_size": 0}, "batch_size must be 1 or more"),
        ([], {"tile": 32}, "tile= cannot be used with .* which returns no logits"),
        ([], {"overlap": 8}, "overlap= needs tile="),
    ],
)
def test_invalid_arguments_raise_immediately(
    images: Any, options: dict[str, Any], message: str, make_file: MakeFile
) -> None:
    with pytest.raises(SegzooError, match=message):
        Predictor(make_file(), "cpu").stream(images, **options)


def test_a_fixed_batch_is_filled_up(make_file: MakeFile) -> None:
    images = [random_image(4, 5, seed) for seed in range(5)]
    session = Predictor(make_file(size=(4, 5), batch=3), "cpu")
    for results in (session.predict(images), list(session.stream(images))):
        for image, mask in zip(images, results, strict=True):
            assert np.array_equal(mask, image.argmax(2))
    assert np.array_equal(session.predict(images[0]), images[0].argmax(2))


def test_little_is_read_ahead_of_large_images(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes: groups of 8 would hold 24 images of 60 bytes."""
    monkeypatch.setattr("segzoo.inference.stream.READ_AHEAD", 300)
    monkeypatch.setattr("segzoo.inference.stream.EXPECTED", 100)
    endless = Endless()
    results = Predictor(make_file(), "cpu").stream(endless, batch_size=8)
    for received in range(1, 40):
        result = next(results)
        assert np.array_equal(result.mask, result.image.argmax(2))
        assert endless.taken <= received + 5
    results.close()  # type: ignore[attr-defined]


def test_a_list_of_many_sizes_does_not_wait_for_full_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segzoo.inference.stream.READ_AHEAD", 600)
    images = [random_image(4, 5 + seed, seed) for seed in range(20)]
    held = most = 0

    def read(image: np.ndarray) -> np.ndarray:
        nonlocal held, most
        held += image.nbytes
        most = max(most, held)
        return image

    def run(group: list[Any]) -> list[Any]:
        nonlocal held
        held -= sum(pixels.nbytes for _, pixels in group)
        return [image for image, _ in group]

    assert [id(result) for result in run_list(images, read, run, 8)] == [id(image) for image in images]
    assert 600 < most < 600 + images[-1].nbytes  # one image more than the limit, and then a group runs
    assert held == 0
