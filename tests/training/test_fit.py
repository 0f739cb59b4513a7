"""The training loop: what it learns, keeps and says, and how it goes on after a kill."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import segzoo
from segzoo.data.datasets import open_data
from segzoo.errors import DataError, DeviceError, OptionError, TrainingError
from segzoo.metrics import ConfusionMatrix
from segzoo.training.callbacks import Silent
from segzoo.training.class_balance import count_classes, unweigh
from segzoo.training.fit import Run, train
from segzoo.training.recipe import Recipe, read_recipe

SOURCE = str(Path(segzoo.__file__).parents[1])


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "log.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def python(script: str, *words: object) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_a_model_learns(small, shapes, tmp_path):
    loss = {"terms": "ce + 0.5*dice", "class_weights": "median_frequency"}
    path = train(small(run={"epochs": 25, "evaluate_every": 5, "ema": 0.9}, loss=loss), tmp_path)
    history = rows(tmp_path)
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert history[-1]["val_mean_iu"] > 0.6
    assert [row["epoch"] for row in history if "val_loss" in row] == [5, 10, 15, 20, 25]
    assert segzoo.load(path).predict(shapes / "val" / "images" / "0.png").shape == (40, 48)


def test_a_run_leaves_all_that_is_asked_for_later(small, tmp_path):
    recipe = small(run={"epochs": 1})
    train(recipe, tmp_path / "run")
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert found == {"last.safetensors", "best.safetensors", "resume.pt", "log.csv", "curves.png", "tensorboard"}
    model = segzoo.load(tmp_path / "run" / "best.safetensors")
    assert model.labels.names == ("ground", "ball", "box")
    assert model.config.info["trained"]["images"] == 8
    assert model.config.info["trained"]["seconds"] > 0
    assert read_recipe(tmp_path / "run" / "best.safetensors") == recipe


def test_the_logged_figures_are_those_of_the_file(small, shapes, tmp_path):
    model = segzoo.load(train(small(run={"epochs": 2, "ema": 0.5}), tmp_path))
    matrix = ConfusionMatrix(3, 255)
    for sample in open_data("folder", shapes, "val"):
        matrix.update(model.predict(sample.image), sample.mask)
    assert rows(tmp_path)[-1]["val_mean_iu"] == pytest.approx(matrix.mean_iu, abs=1e-9)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_class_weights_are_taken_back_from_what_is_kept_and_from_nothing_else(ema, small, tmp_path):
    """The same steps; what is kept, and what the figures are of, is what `unweigh` makes of the model as trained."""
    loss = {"class_weights": "median_frequency"}
    runs = {part: small(run={"epochs": 2, "ema": ema}, loss=loss | {"unweigh": part}) for part in (0.0, 0.5)}
    trained, kept = (segzoo.load(train(recipe, tmp_path / str(part))) for part, recipe in runs.items())
    assert rows(tmp_path / "0.0")[-1]["train_loss"] == rows(tmp_path / "0.5")[-1]["train_loss"]
    assert rows(tmp_path / "0.0")[-1]["val_loss"] != rows(tmp_path / "0.5")[-1]["val_loss"]
    data = runs[0.5].data
    unweigh(trained, count_classes(open_data(data.name, data.root, data.split)).median_frequency, 0.5)
    for (name, expected), found in zip(trained.state_dict().items(), kept.state_dict().values(), strict=True):
        assert torch.equal(found, expected), name


KILLED_IN_STEP_6 = """
import json, os, signal, sys
from segzoo.training.callbacks import Silent
from segzoo.training.fit import train
from segzoo.training.recipe import Recipe

class Kill(Silent):
    def step(self, step, loss):
        if step == 6:
            os.kill(os.getpid(), signal.SIGKILL)

train(Recipe.from_dict(json.loads(sys.argv[1])), sys.argv[2], listeners=[Kill()])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_run_that_was_killed_goes_on_bit_for_bit(small, tmp_path):
    """With all that has a state: dropout, augmentation, a moving average, a schedule, AdamW's moments, statistics."""
    recipe = small(
        model={"decoder": "fcn"},
        loss={"class_weights": "median_frequency", "unweigh": 0.5},
        run={"epochs": 4, "ema": 0.9},
        hardware={"precision": "bf16", "workers": 1},
    )
    killed, unkilled = tmp_path / "killed", tmp_path / "unkilled"
    done = python(KILLED_IN_STEP_6, json.dumps(recipe.to_dict()), killed)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(rows(killed)) == 2  # two steps an epoch: it was in the third
    train(recipe, killed, resume=True)
    train(recipe, unkilled)
    resumed, straight = load_file(killed / "last.safetensors"), load_file(unkilled / "last.safetensors")
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    losses = [[row["train_loss"] for row in rows(folder)] for folder in (killed, unkilled)]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_two_processes_make_the_step_of_one(small, tmp_path):
    """gloo on the CPU: a batch that is shared out has the gradients, and the figures, of the batch as one."""
    recipe = small(
        augmentation=[{"name": "crop", "height": 32, "width": 32}],
        optimiser={"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0},
        schedule={"name": "constant"},
        run={"epochs": 1, "batch": 8, "freeze_batchnorm": True},
    )
    before = Run(recipe, tmp_path / "none", False, ()).model.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    train(recipe, tmp_path / "one")
    (tmp_path / "program.py").write_text("from segzoo.cli import main; main()")
    done = subprocess.run(
        [
            *(sys.executable, tmp_path / "program.py", "train", tmp_path / "one" / "last.safetensors"),
            *("-o", tmp_path / "two", "--devices", "2"),
        ],
        env=os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Wrote") == 1
    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    for name, weights in one.items():
        gradient = before[name].float() - weights.float()
        other = before[name].float() - two[name].float()
        torch.testing.assert_close(other, gradient, rtol=1e-4, atol=1e-5)
    assert any((before[name] != one[name]).any() for name in one)
    first, second = rows(tmp_path / "one")[0], rows(tmp_path / "two")[0]
    for figure in ("train_loss", "train_mean_iu", "val_loss", "val_mean_iu", "val_accuracy"):
        assert second[figure] == pytest.approx(first[figure], rel=1e-4)


def test_a_batch_in_pieces_makes_the_step_of_one(small, tmp_path):
    """Although images differ in how much of them is labelled."""
    weights = []
    for pieces in (1, 4):
        recipe = small(
            optimiser={"name": "sgd", "lr": 0.1, "momentum": 0.0},
            run={"epochs": 1, "batch": 8, "accumulate": pieces, "freeze_batchnorm": True},
        )
        weights.append(load_file(train(recipe, tmp_path / str(pieces))))
    for name, one in weights[0].items():
        torch.testing.assert_close(weights[1][name], one, rtol=1e-4, atol=1e-6)


def test_frozen_statistics_stay(small, tmp_path):
    tensors = load_file(train(small(run={"epochs": 1, "freeze_batchnorm": True}), tmp_path))
    means = [tensor for name, tensor in tensors.items() if name.endswith("running_mean")]
    assert means and all((mean == 0).all() for mean in means)


def test_it_stops_where_nothing_gets_better(small, tmp_path):
    """A rate so low that labels never change: the first epoch stays the best."""
    said = Said()
    train(small(run={"epochs": 9, "patience": 2}, optimiser={"lr": 1e-12}), tmp_path, listeners=[said])
    assert len(rows(tmp_path)) == 3
    assert said.why == "Stopped after epoch 3: none has been better since epoch 1."


class Said(Silent):
    """Remembers the last word, and may do something at each step."""

    def __init__(self, at_step: Callable[[int], None] = lambda step: None) -> None:
        self.at_step, self.why = at_step, ""

    def step(self, step: int, loss: float) -> None:
        self.at_step(step)

    def ends(self, why: str) -> None:
        self.why = why


def poisoned(run: Run, what: str) -> None:
    with torch.no_grad():
        if what == "weights":
            run.model.decoder.score.weight[0, 0] = math.nan
        if what == "statistics":
            next(buffer for name, buffer in run.model.named_buffers() if "running_var" in name).fill_(math.inf)
        if what == "logits":
            run.model.decoder.score.weight.fill_(3e38)
        if what == "loss":
            run.criterion.factors = (math.nan,)
        if what == "gradient":
            run.model.decoder.score.weight.register_hook(lambda gradient: gradient * math.inf)


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        ("weights", "The weights decoder.score.weight are not finite any more"),
        ("statistics", r"The statistics encoder\S+running_var are not finite any more"),
        ("logits", "Weights are finite and logits are not"),
        ("loss", "the loss itself failed"),
        ("gradient", "the gradient of decoder.score.weight is not"),
    ],
)
def test_a_run_that_diverges_says_in_which_step_and_why(what, cause, small, tmp_path):
    run = Run(small(), tmp_path, False, ())
    run.listeners = [*run.listeners, Said(lambda step: poisoned(run, what) if step == 3 else None)]
    with pytest.raises(TrainingError, match=rf"diverged in step 4 \(epoch 2\).*{cause}"):
        run.go()
    assert run.listeners[-1].why == "Stopped by TrainingError."
    # The last good epoch is whole.
    tensors = load_file(tmp_path / "last.safetensors")
    assert len(rows(tmp_path)) == 1
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_a_rate_that_is_too_high_diverges(small, tmp_path):
    with pytest.raises(TrainingError, match=r"diverged in step \d+ .*Lower optimiser\.lr"):
        train(small(optimiser={"name": "sgd", "lr": 1e30}, schedule={"name": "constant"}), tmp_path)
    assert not (tmp_path / "last.safetensors").exists()


def test_a_folder_with_a_run_is_not_overwritten(small, tmp_path):
    train(small(run={"epochs": 1}), tmp_path)
    with pytest.raises(TrainingError, match="holds a run already"):
        train(small(run={"epochs": 1}), tmp_path)


def test_a_run_goes_on_with_its_own_recipe_only(small, tmp_path):
    train(small(run={"epochs": 1}), tmp_path)
    with pytest.raises(TrainingError, match=r"another recipe: optimiser\.lr = 0\.5 instead of 0\.003"):
        train(small(run={"epochs": 1}, optimiser={"lr": 0.5}), tmp_path, resume=True)
    train(small(run={"epochs": 1}, hardware={"workers": 1}), tmp_path, resume=True)


def test_a_run_from_before_a_key_was_there_goes_on(small, tmp_path):
    recipe = small(run={"epochs": 2})
    train(recipe, tmp_path)
    content = torch.load(tmp_path / "resume.pt", weights_only=True)
    del content["recipe"]["loss"]["unweigh"]
    torch.save(content, tmp_path / "resume.pt")
    train(recipe, tmp_path, resume=True)


def test_a_damaged_resume_file_is_an_error(small, tmp_path):
    train(small(run={"epochs": 1}), tmp_path)
    (tmp_path / "resume.pt").write_bytes((tmp_path / "resume.pt").read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"resume\.pt cannot be read"):
        train(small(run={"epochs": 1}), tmp_path, resume=True)


def test_resuming_nothing_begins(small, tmp_path):
    assert train(small(run={"epochs": 1}), tmp_path / "new", resume=True).is_file()


def test_a_model_is_trained_further(small, tmp_path):
    first = train(small(run={"epochs": 1}), tmp_path / "first")
    recipe = small(
        model={"start": str(first)}, run={"epochs": 1}, optimiser={"name": "sgd", "lr": 1e-12}, validation=None
    )
    second = load_file(train(recipe, tmp_path / "second"))
    name = "decoder.score.weight"
    torch.testing.assert_close(second[name], load_file(first)[name])
    assert not (tmp_path / "second" / "best.safetensors").exists()


def test_pixels_between_objects_can_weigh_more(small, tmp_path):
    """Weighed so, what the network learns is something else."""
    recipes = [small(loss=loss, run={"epochs": 1}) for loss in ({}, {"borders": {"w0": 100.0, "sigma": 9.0}})]
    plain, weighed = (load_file(train(recipe, tmp_path / str(n))) for n, recipe in enumerate(recipes))
    assert not torch.equal(plain["decoder.score.weight"], weighed["decoder.score.weight"])


def test_an_auxiliary_head_is_trained(small, tmp_path):
    recipe = small(model={"decoder": "fcn", "options": {"auxiliary": True}}, run={"epochs": 1})
    run = Run(recipe, tmp_path, False, ())
    before = {name: p.clone() for name, p in run.model.named_parameters()}
    run.go()
    moved = [name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])]
    assert set(moved) == set(before)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"run": {"batch": 64}}, DataError, "has 8 images, and a batch of the recipe 64"),
        ({"validation": {"split": "train"}}, DataError, "both trained on and held out"),
        ({"hardware": {"accelerator": "cuba"}}, DeviceError, "cuba"),
        ({"hardware": {"sync_batchnorm": True}}, OptionError, "sync_batchnorm needs GPUs"),
        (
            {
                "model": {"decoder": "paper/segnet_basic", "encoder": None},
                "loss": {"class_weights": "enet", "unweigh": 1},
            },
            OptionError,
            "a paper's own network has no one last bias",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(parts, error, message, small, tmp_path):
    with pytest.raises(error, match=message):
        train(small(**parts), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["start", "encoder_weights"])
def test_weights_that_have_seen_what_is_left_out_are_refused(key, small, tmp_path):
    """Those that went on from such weights too; the figures would flatter, in silence."""
    recipe = small(run={"epochs": 1, "batch": 2})
    whole = train(recipe, tmp_path / "whole")
    half = {"exclude": ["0"]}
    further = train(small(run={"epochs": 1, "batch": 2}, model={"start": str(whole)}, data=half), tmp_path / "further")
    for source in (whole, further):
        with pytest.raises(DataError, match=rf"model.{key}=.* has been trained on 1 of the images that are held out"):
            train(small(run={"epochs": 1, "batch": 2}, model={key: str(source)}).leaving_out("0"), tmp_path / "run")
    without = train(recipe.leaving_out("0"), tmp_path / "without")
    train(small(run={"epochs": 1, "batch": 2}, model={key: str(without)}).leaving_out("0"), tmp_path / "run")


def test_recipes_are_plain_values(small):
    recipe = small()
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
