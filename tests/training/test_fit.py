"""The training loop: learning, files, logs, errors, and resuming after a kill."""

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
from segzoo.data.statistics import count_classes
from segzoo.errors import DataError, DeviceError, OptionError, TrainingError
from segzoo.metrics import ConfusionMatrix
from segzoo.training.callbacks import Callback, CsvLog
from segzoo.training.fit import Run, start, train
from segzoo.training.logit_adjustment import adjust_logits
from segzoo.training.recipe import Recipe, read_recipe

SOURCE = str(Path(segzoo.__file__).parents[1])


@pytest.fixture(autouse=True)
def _csv_log_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the other logs, except in the test of a run's files: drawing curves takes longer than these runs."""
    if request.function is not test_the_files_of_a_run:
        monkeypatch.setattr("segzoo.training.fit.logs", lambda folder: [CsvLog(folder)])


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "log.csv").open() as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def run_python(script: str, *args: object) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_a_model_learns(small, shapes, tmp_path):
    loss = {"loss": "ce + 0.5*dice", "class_weights": "median_frequency"}
    path = train(small(run={"epochs": 12, "batch_size": 2, "evaluate_every": 4, "ema": 0.9}, loss=loss), tmp_path)
    history = rows(tmp_path)
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert history[-1]["val_mean_iou"] > 0.6
    assert [row["epoch"] for row in history if "val_loss" in row] == [4, 8, 12]
    assert segzoo.load(path).predict(shapes / "val" / "images" / "0.png").mask.shape == (40, 48)


def test_the_files_of_a_run(small, tmp_path):
    recipe = small(run={"epochs": 1})
    train(recipe, tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"last.safetensors", "best.safetensors", "resume.pt", "log.csv", "curves.png", "tensorboard"}
    model = segzoo.load(tmp_path / "run" / "best.safetensors")
    assert model.classes.names == ("ground", "ball", "box")
    assert model.spec.info["trained"]["images"] == 8
    assert model.spec.info["trained"]["seconds"] > 0
    assert read_recipe(tmp_path / "run" / "best.safetensors") == recipe


def test_the_logged_metrics_match_the_checkpoint(small, shapes, tmp_path):
    model = segzoo.load(train(small(run={"epochs": 2, "ema": 0.5}), tmp_path))
    matrix = ConfusionMatrix(3, 255)
    for sample in open_data("folder", shapes, "val"):
        matrix.update(model.predict(sample.image).mask, sample.mask)
    assert rows(tmp_path)[-1]["val_mean_iou"] == pytest.approx(matrix.mean_iou, abs=1e-9)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_logit_adjustment_changes_only_the_saved_model(ema, small, tmp_path):
    """The steps are equal; the model that is evaluated and saved is the trained one after `adjust_logits`."""
    loss = {"class_weights": "median_frequency"}
    recipes = {
        strength: small(run={"epochs": 2, "ema": ema}, loss=loss | {"logit_adjustment": strength})
        for strength in (0.0, 0.5)
    }
    trained, saved = (segzoo.load(train(recipe, tmp_path / str(strength))) for strength, recipe in recipes.items())
    assert rows(tmp_path / "0.0")[-1]["train_loss"] == rows(tmp_path / "0.5")[-1]["train_loss"]
    assert rows(tmp_path / "0.0")[-1]["val_loss"] != rows(tmp_path / "0.5")[-1]["val_loss"]
    data = recipes[0.5].data
    adjust_logits(trained, count_classes(open_data(data.name, data.root, data.split)).median_frequency, 0.5)
    for (name, expected), actual in zip(trained.state_dict().items(), saved.state_dict().values(), strict=True):
        assert torch.equal(actual, expected), name


KILLED_IN_STEP_4 = """
import json, os, signal, sys

from segzoo.training import fit
from segzoo.training.callbacks import Callback, CsvLog
from segzoo.training.recipe import Recipe


class Kill(Callback):
    def on_step_end(self, step, loss):
        if step == 4:
            os.kill(os.getpid(), signal.SIGKILL)


fit.logs = lambda folder: [CsvLog(folder)]
fit.train(Recipe.from_dict(json.loads(sys.argv[1])), sys.argv[2], callbacks=[Kill()])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_run_resumes_bit_for_bit(small, tmp_path):
    """With everything that has state: dropout, augmentation, EMA, schedule, AdamW moments, batch statistics."""
    recipe = small(
        model={"decoder": "fcn"},
        loss={"class_weights": "median_frequency", "logit_adjustment": 0.5},
        run={"epochs": 3, "ema": 0.9},
        hardware={"precision": "bf16", "workers": 1},
    )
    killed, unkilled = tmp_path / "killed", tmp_path / "unkilled"
    done = run_python(KILLED_IN_STEP_4, json.dumps(recipe.to_dict()), killed)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(rows(killed)) == 1  # an epoch has two steps, so it was killed in the second
    train(recipe, killed, resume=True)
    train(recipe, unkilled)
    resumed, straight = load_file(killed / "last.safetensors"), load_file(unkilled / "last.safetensors")
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    losses = [[row["train_loss"] for row in rows(folder)] for folder in (killed, unkilled)]
    assert losses[0] == losses[1] and len(losses[0]) == 3


TRAIN_WITH_CSV_LOG = """
from segzoo.cli import main
from segzoo.training import callbacks, fit

fit.logs = lambda folder: [callbacks.CsvLog(folder)]
main()
"""


def test_two_processes_make_the_same_step_as_one(small, tmp_path):
    """With gloo on the CPU: a batch that is split over processes has the gradients and metrics of the whole batch."""
    recipe = small(
        augmentation=[{"name": "crop", "height": 32, "width": 32}],
        optimizer={"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0},
        schedule={"name": "constant"},
        run={"epochs": 1, "batch_size": 8, "freeze_batchnorm": True},
    )
    before = start(recipe, tmp_path / "none", False, ()).model.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    train(recipe, tmp_path / "one")
    (tmp_path / "program.py").write_text(TRAIN_WITH_CSV_LOG)
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
        expected = before[name].float() - weights.float()
        actual = before[name].float() - two[name].float()
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    assert any((before[name] != one[name]).any() for name in one)
    first, second = rows(tmp_path / "one")[0], rows(tmp_path / "two")[0]
    for metric in ("train_loss", "train_mean_iou", "val_loss", "val_mean_iou", "val_accuracy"):
        assert second[metric] == pytest.approx(first[metric], rel=1e-4)


def test_gradient_accumulation_makes_the_same_step(small, tmp_path):
    """Even though images differ in the number of labeled pixels."""
    weights = []
    for steps in (1, 4):
        recipe = small(
            optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.0},
            run={"epochs": 1, "batch_size": 8, "grad_accum_steps": steps, "freeze_batchnorm": True},
        )
        weights.append(load_file(train(recipe, tmp_path / str(steps))))
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected, rtol=1e-4, atol=1e-6)


def test_frozen_batch_statistics_do_not_change(small, tmp_path):
    tensors = load_file(train(small(run={"epochs": 1, "freeze_batchnorm": True}), tmp_path))
    means = [tensor for name, tensor in tensors.items() if name.endswith("running_mean")]
    assert means and all((mean == 0).all() for mean in means)


def test_a_run_without_improvement_stops_early(small, tmp_path):
    """With a learning rate so low that predictions never change, the first epoch remains the best."""
    recorder = Recorder()
    train(small(run={"epochs": 9, "patience": 2}, optimizer={"lr": 1e-12}), tmp_path, callbacks=[recorder])
    assert len(rows(tmp_path)) == 3
    assert recorder.reason == "Stopped after epoch 3: no improvement since epoch 1."


class Recorder(Callback):
    """Records why training ended, and calls a function after each step."""

    def __init__(self, at_step: Callable[[int], None] = lambda step: None) -> None:
        self.at_step, self.reason = at_step, ""

    def on_step_end(self, step: int, loss: float) -> None:
        self.at_step(step)

    def on_fit_end(self, reason: str) -> None:
        self.reason = reason


def poison(run: Run, target: str) -> None:
    with torch.no_grad():
        if target == "weights":
            run.model.decoder.head.weight[0, 0] = math.nan
        if target == "statistics":
            next(buffer for name, buffer in run.model.named_buffers() if "running_var" in name).fill_(math.inf)
        if target == "logits":
            run.model.decoder.head.weight.fill_(3e38)
        if target == "loss":
            run.criterion.factors = (math.nan,)
        if target == "gradient":
            run.model.decoder.head.weight.register_hook(lambda gradient: gradient * math.inf)


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("weights", "The weights decoder.head.weight are no longer finite"),
        ("statistics", r"The statistics encoder\S+running_var are no longer finite"),
        ("logits", "The weights are finite, but the logits are not"),
        ("loss", "the loss itself failed"),
        ("gradient", "the gradient of decoder.head.weight is not"),
    ],
)
def test_a_diverging_run_reports_the_step_and_the_cause(target, cause, small, tmp_path):
    run = start(small(), tmp_path, False, ())
    run.callbacks = [*run.callbacks, Recorder(lambda step: poison(run, target) if step == 3 else None)]
    with pytest.raises(TrainingError, match=rf"diverged in step 4 \(epoch 2\).*{cause}"):
        run.fit()
    assert run.callbacks[-1].reason == "Stopped by TrainingError."
    # The last good epoch is complete.
    tensors = load_file(tmp_path / "last.safetensors")
    assert len(rows(tmp_path)) == 1
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_a_learning_rate_that_is_too_high_diverges(small, tmp_path):
    with pytest.raises(TrainingError, match=r"diverged in step \d+ .*Lower optimizer\.lr"):
        train(small(optimizer={"name": "sgd", "lr": 1e30}, schedule={"name": "constant"}), tmp_path)
    assert not (tmp_path / "last.safetensors").exists()


def test_a_folder_with_a_run_is_not_overwritten(small, tmp_path):
    train(small(run={"epochs": 1}), tmp_path)
    with pytest.raises(TrainingError, match="holds a run already"):
        train(small(run={"epochs": 1}), tmp_path)


def test_a_run_resumes_only_with_its_own_recipe(small, tmp_path):
    train(small(run={"epochs": 1}), tmp_path)
    with pytest.raises(TrainingError, match=r"another recipe: optimizer\.lr = 0\.5 instead of 0\.003"):
        train(small(run={"epochs": 1}, optimizer={"lr": 0.5}), tmp_path, resume=True)
    train(small(run={"epochs": 1}, hardware={"workers": 1}), tmp_path, resume=True)


def test_a_run_from_before_a_key_was_added_resumes(small, tmp_path):
    recipe = small(run={"epochs": 2})
    train(recipe, tmp_path)
    content = torch.load(tmp_path / "resume.pt", weights_only=True)
    del content["recipe"]["loss"]["logit_adjustment"]
    torch.save(content, tmp_path / "resume.pt")
    train(recipe, tmp_path, resume=True)


def test_a_damaged_resume_file_is_an_error(small, tmp_path):
    train(small(run={"epochs": 1}), tmp_path)
    (tmp_path / "resume.pt").write_bytes((tmp_path / "resume.pt").read_bytes()[:1000])
    with pytest.raises(TrainingError, match=r"resume\.pt cannot be read"):
        train(small(run={"epochs": 1}), tmp_path, resume=True)


def test_resuming_without_a_run_starts_one(small, tmp_path):
    assert train(small(run={"epochs": 1}), tmp_path / "new", resume=True).is_file()


def test_training_starts_from_a_checkpoint(small, tmp_path):
    first = train(small(run={"epochs": 1}), tmp_path / "first")
    recipe = small(
        model={"init_from": str(first)}, run={"epochs": 1}, optimizer={"name": "sgd", "lr": 1e-12}, validation=None
    )
    second = load_file(train(recipe, tmp_path / "second"))
    name = "decoder.head.weight"
    torch.testing.assert_close(second[name], load_file(first)[name])
    assert not (tmp_path / "second" / "best.safetensors").exists()


def test_border_weights_change_the_training(small, tmp_path):
    recipes = [small(loss=loss, run={"epochs": 1}) for loss in ({}, {"borders": {"w0": 100.0, "sigma": 9.0}})]
    plain, weighted = (load_file(train(recipe, tmp_path / str(n))) for n, recipe in enumerate(recipes))
    assert not torch.equal(plain["decoder.head.weight"], weighted["decoder.head.weight"])


def test_an_auxiliary_head_is_trained(small, tmp_path):
    recipe = small(model={"decoder": "fcn", "options": {"auxiliary": True}}, run={"epochs": 1})
    run = start(recipe, tmp_path, False, ())
    before = {name: p.clone() for name, p in run.model.named_parameters()}
    run.fit()
    moved = [name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])]
    assert set(moved) == set(before)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"run": {"batch_size": 64}}, DataError, "has 8 images, fewer than the batch size 64"),
        ({"validation": {"split": "train"}}, DataError, "both trained on and held out"),
        ({"hardware": {"accelerator": "cuba"}}, DeviceError, "cuba"),
        ({"hardware": {"sync_batchnorm": True}}, OptionError, "sync_batchnorm needs GPUs"),
        (
            {
                "model": {"decoder": "paper/segnet_basic", "encoder": None},
                "loss": {"class_weights": "enet", "logit_adjustment": 1},
            },
            OptionError,
            "a paper's network has no single bias",
        ),
    ],
)
def test_errors_are_raised_before_anything_is_written(parts, error, message, small, tmp_path):
    with pytest.raises(error, match=message):
        train(small(**parts), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["init_from", "encoder_weights"])
def test_weights_trained_on_held_out_images_are_rejected(key, small, tmp_path):
    """So are weights that started from such weights; the metrics would be too optimistic, unnoticed."""
    recipe = small(run={"epochs": 1, "batch_size": 2})
    whole = train(recipe, tmp_path / "whole")
    half = {"exclude": ["0"]}
    further = train(
        small(run={"epochs": 1, "batch_size": 2}, model={"init_from": str(whole)}, data=half), tmp_path / "further"
    )
    for source in (whole, further):
        with pytest.raises(DataError, match=rf"model.{key}=.* has been trained on 1 of the images that are held out"):
            train(
                small(run={"epochs": 1, "batch_size": 2}, model={key: str(source)}).with_holdout("0"), tmp_path / "run"
            )
    without = train(recipe.with_holdout("0"), tmp_path / "without")
    train(small(run={"epochs": 1, "batch_size": 2}, model={key: str(without)}).with_holdout("0"), tmp_path / "run")


def test_recipes_round_trip_through_json(small):
    recipe = small()
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
