"""Recipes: what a file may say, and what is said of what it may not."""

import dataclasses
from pathlib import Path

import pytest

import segzoo
from segzoo.data.augment import Augmentation
from segzoo.errors import CheckpointError, OptionError, SegzooError, UnknownNameError
from segzoo.training import recipes
from segzoo.training.build_loss import class_weights_of, criterion_of
from segzoo.training.recipe import Recipe, ValidationPart, read_recipe
from segzoo.training.schema import parse_override

DATA = '[data]\nname = "camvid"\nroot = "data"\n'


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text(DATA + text)
        return path

    return write


def test_what_is_not_said_has_its_default(toml):
    recipe = read_recipe(toml("[run]\nepochs = 7\n"))
    assert recipe == Recipe.from_dict({"data": {"name": "camvid", "root": "data"}, "run": {"epochs": 7}})
    assert (recipe.run.epochs, recipe.run.batch, recipe.validation) == (7, 8, None)


def test_overrides_count_instead(toml):
    path = toml('[[augmentation]]\nname = "flip"\np = 0.5\n')
    said = {"run.epochs": 3, "model.options.width": 8, "augmentation.0.p": 0.25, "data.select": "0001TP*"}
    recipe = read_recipe(path, said)
    assert recipe.run.epochs == 3
    assert recipe.model.options == {"width": 8}
    assert recipe.augmentation == ({"name": "flip", "p": 0.25},)
    assert recipe.data.select == ("0001TP*",)


def test_what_is_left_out_is_validated_on(toml):
    recipe = read_recipe(toml('split = "train"\nexclude = "bad_*"\n[validation]\nsplit = "val"\n'))
    without = recipe.leaving_out("0001TP*")
    assert without.data.exclude == ("bad_*", "0001TP*") and without.data.split == "train"
    assert without.validation == ValidationPart("train", ("0001TP*",), ("bad_*",))
    assert dataclasses.replace(without, data=recipe.data, validation=recipe.validation) == recipe
    with pytest.raises(OptionError, match=r"takes patterns .* not \[\]"):
        recipe.leaving_out()
    with pytest.raises(OptionError, match=r"data.select=\['A\*'\]"):
        dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, select=("A*",))).leaving_out("A_1*")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("run.epochs=3", "run.epochs", 3),
        ("optimiser.lr = 1e-3", "optimiser.lr", 1e-3),
        ("data.root=../camvid", "data.root", "../camvid"),
        ("data.select=['a*', 'b*']", "data.select", ["a*", "b*"]),
        ("run.freeze_batchnorm=true", "run.freeze_batchnorm", True),
        ("validation={split='val'}", "validation", {"split": "val"}),
    ],
)
def test_an_override_is_read_as_toml(text, key, value):
    assert parse_override(text) == (key, value)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[optimizer]\nlr = 1\n", UnknownNameError, "'optimizer'. Did you mean 'optimiser'"),
        ("[run]\nepoch = 1\n", UnknownNameError, "'run.epoch'. Did you mean 'run.epochs'"),
        ("[run]\nepochs = 1.5\n", OptionError, "run.epochs of a recipe is a whole number from 0 up, not 1.5"),
        ("[run]\nepochs = true\n", OptionError, "run.epochs of a recipe is a whole number"),
        ("[run]\nepochs = 0\n", OptionError, "run.epochs is above 0"),
        ("[run]\nbatch = 8\naccumulate = 3\n", OptionError, "Make it a multiple of 3"),
        ("[run]\nema = 1\n", OptionError, "run.ema is a decay"),
        ("[run]\npatience = 3\n", OptionError, "run.patience=3 needs a"),
        ("[optimiser]\nlr = -1\n", OptionError, "optimiser.lr of a recipe is a number from 0 up"),
        ("[optimiser]\nlr = nan\n", OptionError, "optimiser.lr of a recipe is a number from 0 up"),
        ("[optimiser]\nname = 'adam'\n", UnknownNameError, "Unknown optimiser 'adam'. Did you mean 'adamw'"),
        ("[schedule]\nname = 'cosin'\n", UnknownNameError, "Did you mean 'cosine'"),
        ("[schedule]\nwarmup = 100\n", OptionError, "schedule.warmup is shorter than the run's 100 epochs"),
        ("[loss]\nclass_weights = 'median-frequency'\n", UnknownNameError, "Did you mean 'median_frequency'"),
        ("[loss]\nclass_weights = 'enet'\nunweigh = 1.5\n", OptionError, "loss.unweigh is a part .* 0-1, not 1.5"),
        ("[loss]\nunweigh = 0.5\n", OptionError, "Set both, or loss.unweigh=0"),
        ("[hardware]\nprecision = 'fp8'\n", UnknownNameError, "Unknown precision 'fp8'"),
        ("[augmentation]\nname = 'flip'\n[run]\nx = 1\n", UnknownNameError, "'run.x'"),
        ("[run\n", OptionError, "is not TOML"),
    ],
)
def test_what_cannot_be_is_named(text, error, message, toml):
    with pytest.raises(error, match=message):
        read_recipe(toml(text))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(OptionError, match=r"A recipe needs data\."):
        Recipe.from_dict({})
    with pytest.raises(OptionError, match=r"\[data\] of a recipe needs name and root\."):
        Recipe.from_dict({"data": {}})
    with pytest.raises(OptionError, match="run of a recipe is a table of options, not 3"):
        Recipe.from_dict({"data": {"name": "camvid", "root": "data"}, "run": 3})
    with pytest.raises(OptionError, match="There is no recipe"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(CheckpointError, match="No file"):
        read_recipe(tmp_path / "none.safetensors")


def test_a_model_that_no_recipe_made_has_none(tmp_path):
    path = segzoo.save(segzoo.create("fcn8s", "test_resnet", 3), tmp_path / "model")
    with pytest.raises(OptionError, match="was trained without a recipe"):
        read_recipe(path)


@pytest.mark.parametrize("text", ["epochs", "=3", ""])
def test_an_override_without_a_value_is_an_error(text):
    with pytest.raises(OptionError, match="An override is KEY=VALUE"):
        parse_override(text)


@pytest.mark.parametrize("key", ["augmentation.7.p", "augmentation.first", "run.epochs.more"])
def test_an_override_of_no_place_is_an_error(key, toml):
    with pytest.raises(SegzooError, match=f"{key.split('.')[-2]}|{key}"):
        read_recipe(toml('[[augmentation]]\nname = "flip"\n[run]\nepochs = 3\n'), {key: 1})


@pytest.mark.parametrize("name", recipes.names())
def test_the_recipes_that_come_with_segzoo_can_be_made(name, make_data):
    """All but their data: names and options of the network, augmentation and loss."""
    recipe = read_recipe(recipes.path(name))
    assert recipe.note
    Augmentation(recipe.augmentation, 255)
    data = make_data()
    criterion_of(recipe.loss, data.ignored, class_weights_of(recipe.loss, data))
    model = segzoo.create(recipe.model.decoder, recipe.model.encoder, labels="camvid", **recipe.model.options)
    assert model.config.num_classes == 11
