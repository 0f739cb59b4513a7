"""Evaluation: figures against the confusion matrix of everything at once, and what is said of other classes."""

import json
import math

import numpy as np
import pytest

import segzoo
from segzoo.classes import LabelSet
from segzoo.errors import DataError
from segzoo.metrics import ConfusionMatrix
from segzoo.training.evaluate import evaluate
from segzoo.training.plots import Compared, beside, draw_comparison, draw_confusion


class Oracle:
    """Predicts what it is told to, image by image."""

    def __init__(self, labels: LabelSet, answers: list[np.ndarray]) -> None:
        self.labels, self._answers = labels, iter(answers)

    def predict(self, image: np.ndarray) -> np.ndarray:
        return next(self._answers)


@pytest.fixture
def answers(make_data):
    """Data, and answers of which more are wrong from image to image."""
    data = make_data(4)
    noise = np.random.default_rng(0)
    found = []
    for index in range(len(data)):
        mask = data.mask(index)
        wrong = noise.random(mask.shape) < index / 4
        found.append(np.where((mask == data.ignored) | wrong, 0, mask).astype(np.uint8))
    return data, found


def test_the_figures_are_those_of_all_pixels_together(answers):
    data, found = answers
    matrix = ConfusionMatrix(5, 255)
    matrix.update(np.concatenate(found), np.concatenate([data.mask(index) for index in range(4)]))
    told = []
    result = evaluate(Oracle(data.labels, found), data, lambda done, total: told.append((done, total)))
    assert result.matrix == matrix
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_worst_images_come_first(answers):
    data, found = answers
    result = evaluate(Oracle(data.labels, found), data)
    assert [image.name for image in result.worst(3)] == ["b_3", "a_2", "b_1"]
    assert result.images[0].mean_iu == result.images[0].pixel_accuracy == 1


def test_it_becomes_json(answers):
    data, found = answers
    result = evaluate(Oracle(data.labels, found), data)
    record = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert record["mean_iu"] == result.matrix.mean_iu
    assert [one["name"] for one in record["classes"]] == list("abcde")
    assert ConfusionMatrix.from_dict(record["confusion"]) == result.matrix
    assert record["images"][0] == {"name": "a_0", "mean_iu": 1.0, "pixel_accuracy": 1.0}


def test_an_image_without_labels_counts_nowhere(make_data):
    data = make_data(2)
    data.mask = lambda index, mask=data.mask: np.full_like(mask(index), 255)
    result = evaluate(Oracle(data.labels, [np.zeros((12, 16), np.uint8)] * 2), data)
    assert result.worst(9) == []
    assert math.isnan(result.images[0].mean_iu) and result.to_dict()["mean_iu"] is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LabelSet.generic(4), "has 4 classes, and small data 5"),
        (LabelSet(tuple("abxde"), LabelSet.generic(5).colours), "calls the id 2 'x', and small data 'c'"),
    ],
)
def test_other_classes_are_an_error(labels, message, make_data):
    with pytest.raises(DataError, match=message):
        evaluate(Oracle(labels, []), make_data())


def test_a_model_whose_classes_have_no_names_may_have_any(make_data):
    model = segzoo.create("unet", "test_resnet", 5)
    assert evaluate(model, make_data(1)).matrix.pixels > 0


def test_the_confusion_matrix_is_a_picture(answers, tmp_path):
    data, found = answers
    draw_confusion(evaluate(Oracle(data.labels, found), data).matrix, data.labels, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 10_000


def test_truth_and_prediction_stand_beside_the_image(make_data):
    image, mask, _ = make_data(1, (60, 80))[0]
    picture = np.asarray(beside(image, mask, np.zeros_like(mask), LabelSet.generic(5)))
    assert np.array_equal(picture[:60, :80], image)
    ignored = mask == 255
    assert np.array_equal(picture[:60, 86:166][ignored], image[ignored])


def test_models_are_points_of_a_plot(tmp_path):
    models = [Compared("small", 0.5, 0.8, 10**6, 10.0, None), Compared("large", 0.6, 0.9, 10**8, 90.0, 60.0)]
    draw_comparison(models, tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
