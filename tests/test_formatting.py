"""Metrics and recipes as readable text."""

import math
import tomllib

import pytest

from segzoo import formatting
from segzoo.metrics import ConfusionMatrix
from segzoo.training import recipes
from segzoo.training.recipe import Recipe, read_recipe
from segzoo.weights import catalog
from segzoo.weights.catalog import entries


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.84649972, "84.65 %"), (0.5, "50.00 %"), (1.0, "100.00 %"), (0, "0.00 %"), (math.nan, "-"), (None, "-")],
)
def test_a_fraction_is_rounded_to_a_hundredth_of_a_percent(fraction, expected):
    assert formatting.percent(fraction) == expected
    assert formatting.points(fraction) == expected.removesuffix(" %")


@pytest.mark.parametrize("fraction", [0.84649972, 0.62304278, 0.1234501, 0.05554999])
def test_a_stored_value_is_shown_like_the_measured_one(fraction):
    """The catalog stores four digits."""
    assert formatting.percent(round(fraction, 4)) == formatting.percent(fraction)


def test_a_metric_has_one_name_everywhere():
    names = {key: formatting.name(key) for key in (*ConfusionMatrix(2).summary(), *catalog.METRICS)}
    assert set(names.values()) == {"mean IoU", "pixel accuracy", "mean accuracy", "fw IoU", "mean Dice"}
    assert formatting.name("val_accuracy") == "val pixel accuracy"
    assert formatting.name("images_per_second") == "images per second"


def test_only_fractions_of_metrics_become_percent():
    record = {"val_mean_iou": 0.601, "mean_iou": 62.3, "lr": 1.1432441e-10, "epoch": 150, "device": "cpu", "ema": True}
    assert [value for _, value in formatting.rows(record)] == ["60.10 %", "62.3", "1.143e-10", "150", "cpu", "true"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("as it is", "as it is"),
        (["a", "b"], "a, b"),
        ({"from": "torchvision", "left": [1, "x"], "none": None}, 'from = "torchvision", left = [1, "x"]'),
        ({"deep": {"empty": {}, "p": 0.5}, "gone": {"empty": None}}, "deep = { p = 0.5 }"),
    ],
)
def test_a_value_is_one_line(value, expected):
    assert formatting.text(value) == expected


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_can_be_read_back_from_its_rows(name):
    recipe = read_recipe(recipes.path(name))
    record: dict = {}
    for table, line in formatting.recipe_rows(recipe.to_dict()):
        value = line if table == "note" else tomllib.loads(f"x = {{ {line} }}")["x"]
        if table in ("augmentation", ""):
            record.setdefault("augmentation", []).append(value)
        else:
            record[table] = value
    assert len(record["augmentation"]) == len(recipe.augmentation) > 1
    assert Recipe.from_dict(record) == recipe


TRAINED = {"epoch": 150, "val_mean_iou": 0.6010133, "val_accuracy": 0.874, "input_wait": 0.005, "seconds": 5716.4}


def test_two_measurements_are_distinguished():
    info = {"metrics": {"mean_iou": 0.623}, "metrics_on": "val", "metrics_by": "me", "trained": TRAINED, "data": "it"}
    released, run = formatting.sections(info)
    assert (released.title, run.title) == ("Metrics of these weights", "At the end of training")
    assert released.rows == [("measured on", "val, by me"), ("mean IoU", "62.30 %")]
    assert released.keys == ("metrics", "metrics_on", "metrics_by")
    assert "Two measurements" in run.note
    assert run.rows == [
        ("epoch", "150"),
        ("val mean IoU", "60.10 %"),
        ("val pixel accuracy", "87.40 %"),
        ("input wait", "0.50 %"),
        ("trained in", "95.3 min"),
    ]


@pytest.mark.parametrize("info", [{"metrics": {"mean_iou": 0.623}}, {"trained": TRAINED}])
def test_one_measurement_needs_no_note(info):
    (section,) = formatting.sections(info)
    assert section.note == "" and section.title in ("Metrics", "At the end of training")


@pytest.mark.parametrize("info", [{}, {"metrics": "about 60 %", "recipe": "https://example.org"}, {"trained": {}}])
def test_only_objects_become_sections(info):
    assert formatting.sections(info) == []


def test_every_metric_of_the_catalog_has_a_name():
    assert {key for entry in entries().values() for key in entry.metrics} <= set(formatting.METRICS)
