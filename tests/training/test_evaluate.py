"""Evaluation: metrics compared with one confusion matrix of all pixels, plots, and errors for other classes."""

import json
import math

import numpy as np
import pytest

import segzoo
from segzoo.classes import ClassSet
from segzoo.errors import DataError
from segzoo.metrics import ConfusionMatrix
from segzoo.training.evaluate import evaluate
from segzoo.training.plots import Compared, draw_comparison, draw_confusion, side_by_side


class Oracle:
    """Predicts given masks, image by image."""

    def __init__(self, classes: ClassSet, predictions: list[np.ndarray]) -> None:
        self.classes, self._predictions = classes, iter(predictions)

    def predict(self, image: np.ndarray) -> np.ndarray:
        return next(self._predictions)


@pytest.fixture
def predictions(make_data):
    """Data, and predictions with more errors from image to image."""
    data = make_data(4)
    noise = np.random.default_rng(0)
    masks = []
    for index in range(len(data)):
        mask = data.mask(index)
        wrong = noise.random(mask.shape) < index / 4
        masks.append(np.where((mask == data.ignore_index) | wrong, 0, mask).astype(np.uint8))
    return data, masks


def test_the_metrics_are_those_of_all_pixels_together(predictions):
    data, masks = predictions
    matrix = ConfusionMatrix(5, 255)
    matrix.update(np.concatenate(masks), np.concatenate([data.mask(index) for index in range(4)]))
    progress = []
    result = evaluate(Oracle(data.classes, masks), data, lambda done, total: progress.append((done, total)))
    assert result.matrix == matrix
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_worst_images_come_first(predictions):
    data, masks = predictions
    result = evaluate(Oracle(data.classes, masks), data)
    assert [image.name for image in result.worst(3)] == ["b_3", "a_2", "b_1"]
    assert result.images[0].mean_iou == result.images[0].pixel_accuracy == 1


def test_an_evaluation_becomes_json(predictions):
    data, masks = predictions
    result = evaluate(Oracle(data.classes, masks), data)
    record = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert record["mean_iou"] == result.matrix.mean_iou
    assert [entry["name"] for entry in record["classes"]] == list("abcde")
    assert ConfusionMatrix.from_dict(record["confusion"]) == result.matrix
    assert record["images"][0] == {"name": "a_0", "mean_iou": 1.0, "pixel_accuracy": 1.0}


def test_an_image_without_labels_does_not_count(make_data):
    data = make_data(2)
    data.mask = lambda index, mask=data.mask: np.full_like(mask(index), 255)
    with pytest.warns(UserWarning, match="small data has no labeled pixel: metrics are undefined"):
        result = evaluate(Oracle(data.classes, [np.zeros((12, 16), np.uint8)] * 2), data)
    assert result.worst(9) == []
    assert math.isnan(result.images[0].mean_iou) and result.to_dict()["mean_iou"] is None


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (ClassSet.generic(4), "has 4 classes, and small data has 5"),
        (ClassSet(tuple("abxde"), ClassSet.generic(5).palette), "has the class 'x' at id 2, and small data has 'c'"),
    ],
)
def test_other_classes_are_an_error(classes, message, make_data):
    with pytest.raises(DataError, match=message):
        evaluate(Oracle(classes, []), make_data())


def test_generic_class_names_match_any(make_data):
    model = segzoo.create("unet", "test_resnet", 5)
    assert evaluate(model, make_data(1)).matrix.pixels > 0


def test_the_confusion_matrix_is_an_image(predictions, tmp_path):
    data, masks = predictions
    draw_confusion(evaluate(Oracle(data.classes, masks), data).matrix, data.classes, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 10_000


def test_image_truth_and_prediction_are_side_by_side(make_data):
    image, mask, _ = make_data(1, (60, 80))[0]
    picture = np.asarray(side_by_side(image, mask, np.zeros_like(mask), ClassSet.generic(5)))
    assert np.array_equal(picture[:60, :80], image)
    ignored = mask == 255
    assert np.array_equal(picture[:60, 86:166][ignored], image[ignored])


def test_models_are_points_of_a_plot(tmp_path):
    models = [Compared("small", 0.5, 0.8, 10**6, 10.0, None), Compared("large", 0.6, 0.9, 10**8, 90.0, 60.0)]
    draw_comparison(models, tmp_path / "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
