"""Recipes: defaults, overrides, and errors for invalid files."""

import dataclasses
from pathlib import Path

import pytest

import segzoo
from segzoo.data.augment import Augmentation
from segzoo.errors import CheckpointError, OptionError, SegzooError, UnknownNameError
from segzoo.training import recipes
from segzoo.training.build_loss import build_loss, compute_class_weights
from segzoo.training.overrides import parse_override
from segzoo.training.recipe import Recipe, ValidationConfig, read_recipe

DATA = '[data]\nname = "camvid"\nroot = "data"\n'


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text(DATA + text)
        return path

    return write


def test_missing_keys_have_their_defaults(toml):
    recipe = read_recipe(toml("[run]\nepochs = 7\n"))
    assert recipe == Recipe.from_dict({"data": {"name": "camvid", "root": "data"}, "run": {"epochs": 7}})
    assert (recipe.run.epochs, recipe.run.batch_size, recipe.validation) == (7, 8, None)


def test_overrides_replace_values(toml):
    path = toml('[[augmentation]]\nname = "flip"\np = 0.5\n')
    overrides = {
        "run.epochs": 3,
        "model.options.decoder_channels": 8,
        "augmentation.0.p": 0.25,
        "data.select": "0001TP*",
    }
    recipe = read_recipe(path, overrides)
    assert recipe.run.epochs == 3
    assert recipe.model.options == {"decoder_channels": 8}
    assert recipe.augmentation == ({"name": "flip", "p": 0.25},)
    assert recipe.data.select == ("0001TP*",)


def test_the_holdout_is_used_for_validation(toml):
    recipe = read_recipe(toml('split = "train"\nexclude = "bad_*"\n[validation]\nsplit = "val"\n'))
    holdout = recipe.with_holdout("0001TP*")
    assert holdout.data.exclude == ("bad_*", "0001TP*") and holdout.data.split == "train"
    assert holdout.validation == ValidationConfig("train", ("0001TP*",), ("bad_*",))
    assert dataclasses.replace(holdout, data=recipe.data, validation=recipe.validation) == recipe
    with pytest.raises(OptionError, match=r"needs patterns .* not \[\]"):
        recipe.with_holdout()
    with pytest.raises(OptionError, match=r"data.select=\['A\*'\]"):
        dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, select=("A*",))).with_holdout("A_1*")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("run.epochs=3", "run.epochs", 3),
        ("optimizer.lr = 1e-3", "optimizer.lr", 1e-3),
        ("data.root=../camvid", "data.root", "../camvid"),
        ("data.select=['a*', 'b*']", "data.select", ["a*", "b*"]),
        ("run.freeze_batchnorm=true", "run.freeze_batchnorm", True),
        ("validation={split='val'}", "validation", {"split": "val"}),
    ],
)
def test_an_override_is_parsed_as_toml(text, key, value):
    assert parse_override(text) == (key, value)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[optimiser]\nlr = 1\n", UnknownNameError, "'optimiser'. Did you mean 'optimizer'"),
        ("[run]\nepoch = 1\n", UnknownNameError, "'run.epoch'. Did you mean 'run.epochs'"),
        ("[run]\nepochs = 1.5\n", OptionError, "run.epochs must be a whole number, not 1.5"),
        ("[run]\nepochs = true\n", OptionError, "run.epochs must be a whole number, not True"),
        ("[run]\nepochs = 0\n", OptionError, "run.epochs must be above 0"),
        ("[run]\nbatch_size = 8\ngrad_accum_steps = 3\n", OptionError, "Make it a multiple of 3"),
        ("[run]\nema = 1\n", OptionError, "run.ema must be a decay"),
        ("[run]\npatience = 3\n", OptionError, "run.patience=3 needs a"),
        ("[optimizer]\nlr = -1\n", OptionError, "optimizer.lr must be above 0, not -1"),
        ("[optimizer]\nlr = nan\n", OptionError, "optimizer.lr must be a finite number, not nan"),
        (
            "[optimizer]\nname = 'adam'\n",
            UnknownNameError,
            "Unknown optimizer 'adam'. Did you mean 'adamw'",
        ),
        ("[schedule]\nname = 'cosin'\n", UnknownNameError, "Did you mean 'cosine'"),
        ("[schedule]\nwarmup = 100\n", OptionError, "schedule.warmup must be shorter than the run's 100 epochs"),
        ("[loss]\nclass_weights = 'median-frequency'\n", UnknownNameError, "Did you mean 'median_frequency'"),
        (
            "[loss]\nclass_weights = 'enet'\nlogit_adjustment = 1.5\n",
            OptionError,
            "loss.logit_adjustment must be a strength, 0-1, not 1.5",
        ),
        ("[loss]\nlogit_adjustment = 0.5\n", OptionError, "Set both, or loss.logit_adjustment=0"),
        (
            "[hardware]\nprecision = 'fp8'\n",
            UnknownNameError,
            "Unknown precision 'fp8'",
        ),
        ("[augmentation]\nname = 'flip'\n[run]\nx = 1\n", UnknownNameError, "'run.x'"),
        ("[run\n", OptionError, "is not TOML"),
    ],
)
def test_invalid_values_are_named(text, error, message, toml):
    with pytest.raises(error, match=message):
        read_recipe(toml(text))


def test_missing_values_and_files_are_named(tmp_path):
    with pytest.raises(OptionError, match=r"^data is missing\.$"):
        Recipe.from_dict({})
    with pytest.raises(OptionError, match=r"^data.name is missing; data.root is missing\.$"):
        Recipe.from_dict({"data": {}})
    with pytest.raises(OptionError, match="run must be a table of options, not 3"):
        Recipe.from_dict({"data": {"name": "camvid", "root": "data"}, "run": 3})
    with pytest.raises(OptionError, match="There is no recipe"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(CheckpointError, match="No file"):
        read_recipe(tmp_path / "none.safetensors")


def test_all_faults_are_named_with_their_places():
    record = {
        "data": {"name": 3, "root": "data"},
        "run": {"epochs": 0, "batch": 4},
        "loss": {"borders": {"sigma": "x"}},
        "epochs": 3,
    }
    with pytest.raises(OptionError) as caught:
        Recipe.from_dict(record)
    *faults, batch, epochs = str(caught.value).removesuffix(".").split("; ")
    assert faults == [
        "data.name must be a string, not 3",
        "loss.borders.sigma must be a number, not 'x'",
        "run.epochs must be above 0, not 0",
    ]
    assert batch.startswith("Unknown key 'run.batch'. Did you mean 'run.batch_size' or ")
    assert " run takes epochs, batch_size, " in batch
    assert epochs.startswith("Unknown key 'epochs'. Did you mean 'run.epochs'") and "It takes data, note, " in epochs


@pytest.mark.parametrize("record", [None, 3, "recipe", [["data", {}]], {3: 4}])
def test_a_recipe_is_a_mapping(record):
    with pytest.raises(OptionError, match="A recipe is a mapping with sections"):
        Recipe.from_dict(record)


def test_a_model_trained_without_a_recipe_has_none(tmp_path):
    path = segzoo.save(segzoo.create("fcn8s", "test_resnet", 3), tmp_path / "model")
    with pytest.raises(OptionError, match="contains no recipe"):
        read_recipe(path)


@pytest.mark.parametrize("text", ["epochs", "=3", ""])
def test_an_override_without_a_value_is_an_error(text):
    with pytest.raises(OptionError, match="An override is KEY=VALUE"):
        parse_override(text)


@pytest.mark.parametrize("key", ["augmentation.7.p", "augmentation.first", "run.epochs.more"])
def test_an_override_of_an_unknown_key_is_an_error(key, toml):
    with pytest.raises(SegzooError, match=f"{key.split('.')[-2]}|{key}"):
        read_recipe(toml('[[augmentation]]\nname = "flip"\n[run]\nepochs = 3\n'), {key: 1})


@pytest.mark.parametrize("name", recipes.names())
def test_the_recipes_of_segzoo_are_valid(name, make_data):
    """Except for their data: names and options of the network, the augmentation and the loss."""
    recipe = read_recipe(recipes.path(name))
    assert recipe.note
    Augmentation(recipe.augmentation, 255)
    data = make_data()
    build_loss(recipe.loss, data.ignore_index, compute_class_weights(recipe.loss, data))
    model = segzoo.create(recipe.model.decoder, recipe.model.encoder, classes="camvid", **recipe.model.options)
    assert model.spec.num_classes == 11


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 5000, "a = " + "[" * 100 + "]" * 100, "a = 1\n" * 3 + "#" * 2**24],
    ids=["open", "deep", "long"],
)
def test_a_recipe_of_any_depth_or_length_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(text)
    with pytest.raises(OptionError, match=r"is not TOML: (lists and objects are nested deeper|it has more than)"):
        read_recipe(tmp_path / "deep.toml")
