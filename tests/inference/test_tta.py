"""Test-time augmentation takes the mean of the views' probabilities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segzoo.errors import SegzooError
from segzoo.inference import Predictor
from segzoo.inference.tta import mean_of_views, views

MakeFile = Callable[..., Path]
Scene = Callable[..., np.ndarray]


@pytest.mark.parametrize(
    ("tta", "expected"),
    [
        (None, [(1.0, False)]),
        ("flip", [(1.0, False), (1.0, True)]),
        ((0.5, 1), [(0.5, False), (1.0, False)]),
        (["flip", 0.5, 1.0], [(0.5, False), (0.5, True), (1.0, False), (1.0, True)]),
    ],
)
def test_views(tta: Any, expected: list[tuple[float, bool]]) -> None:
    assert views(tta) == expected


@pytest.mark.parametrize("tta", ["flop", ("flip", "rotate"), (0.0,), (11,), (True,), 1.5, (None,)])
def test_other_views_are_refused(tta: Any) -> None:
    with pytest.raises(SegzooError, match="tta must be 'flip', or scales"):
        views(tta)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(0))
    return exponentials / exponentials.sum(0)


def test_flip(make_network: MakeFile, scene: Scene) -> None:
    session = Predictor(make_network(), "cpu", threads=1)
    image = scene(40, 51)
    logits = session.backend.run(np.stack([image, image[:, ::-1]]), ["logits"])["logits"]
    expected = softmax(logits[0]) + softmax(logits[1])[:, :, ::-1]
    mask = session.predict(image, tta="flip").mask
    assert np.array_equal(mask, expected.argmax(0))
    assert not np.array_equal(mask, session.predict(image))
    assert np.array_equal(session.predict(np.ascontiguousarray(image[:, ::-1]), tta="flip"), mask[:, ::-1])


def test_scales(make_network: MakeFile, scene: Scene) -> None:
    session = Predictor(make_network(), "cpu", threads=1)
    image = scene(40, 50)
    smaller = np.asarray(Image.fromarray(image).resize((25, 20), Image.Resampling.BILINEAR))
    full, half = (softmax(session.backend.run(i[None], ["logits"])["logits"][0]) for i in (image, smaller))
    larger = [np.asarray(Image.fromarray(plane).resize((50, 40), Image.Resampling.BILINEAR)) for plane in half]
    assert np.array_equal(session.predict(image, tta=(1.0, 0.5)), (full + np.stack(larger)).argmax(0))


def test_probabilities_still_sum_to_one(scene: Scene) -> None:
    sizes: list[tuple[int, int]] = []

    def predict(image: np.ndarray) -> np.ndarray:
        sizes.append(image.shape[:2])
        return softmax(image.transpose(2, 0, 1).astype(np.float32) / 50)

    mean = mean_of_views(predict, views(("flip", 0.3, 1, 1.7)))(scene(33, 20))
    assert sizes == 2 * [(10, 6)] + 2 * [(33, 20)] + 2 * [(56, 34)]
    assert mean.shape == (3, 33, 20)
    assert mean.dtype == np.float32
    assert np.abs(mean.sum(0) - 1).max() < 1e-5


@pytest.mark.parametrize("tta", ["flip", (0.5, 1.0), ("flip", 1.0, 1.5)])
@pytest.mark.parametrize("size", [(90, 70), (1, 40), (1, 1)])
def test_views_of_tiles(tta: Any, size: tuple[int, int], make_network: MakeFile, scene: Scene) -> None:
    session = Predictor(make_network(), "cpu", threads=1)
    image = scene(*size)
    tiled = session.predict(image, tile=48, overlap=24, tta=tta).mask
    assert (tiled == session.predict(image, tta=tta).mask).mean() >= 0.99


def test_tta_works_with_a_fixed_size(make_network: MakeFile, scene: Scene) -> None:
    image = scene(40, 50)
    expected = Predictor(make_network(), "cpu", threads=1).predict(image, tta="flip").mask
    assert np.array_equal(Predictor(make_network(size=(40, 50)), "cpu", threads=1).predict(image, tta="flip"), expected)
