"""`segzoo train`."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import segzoo
from segzoo.cli import console
from segzoo.cli.train import TrainingProgress
from segzoo.training.build import open_datasets
from segzoo.training.recipe import read_recipe

RECIPE = """
[model]
encoder = "test_resnet"
[data]
name = "folder"
root = "{root}"
split = "train"
[validation]
split = "val"
[run]
epochs = 9
batch_size = 2
[hardware]
accelerator = "cpu"
workers = 0
threads = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for split in ("train", "val"):
        for kind, shape in (("images", (32, 32, 3)), ("masks", (32, 32))):
            (root / split / kind).mkdir(parents=True)
            for number in range(2):
                pixels = np.random.default_rng(number).integers(0, 2, shape, np.uint8)
                Image.fromarray(pixels).save(root / split / kind / f"{number}.png")
    (root / "classes.json").write_text(json.dumps({"names": ["off", "on"]}))
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(root=root))
    return path


def test_a_recipe_becomes_a_model(segzoo_, recipe, tmp_path):
    done = segzoo_("train", recipe, "-o", tmp_path / "run", "--set", "run.epochs=2", "--set", "optimizer.lr=1e-4")
    assert done.exit_code == 0, done.stderr
    assert f"Wrote {tmp_path / 'run' / 'last.safetensors'}" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2 and "epoch 2 of 2: loss " in lines[1]
    assert "val mean IoU" in lines[0] and "left" in lines[0]
    recipe = segzoo.load(tmp_path / "run" / "last.safetensors").spec.info["recipe"]
    assert (recipe["run"]["epochs"], recipe["optimizer"]["lr"]) == (2, 1e-4)


def test_a_checkpoint_is_trained_again_by_its_recipe(segzoo_, recipe, tmp_path):
    assert segzoo_("train", recipe, "-o", tmp_path / "one", "--set", "run.epochs=1").exit_code == 0
    done = segzoo_("train", tmp_path / "one" / "last.safetensors", "-o", tmp_path / "two")
    assert done.exit_code == 0, done.stderr
    one, two = (segzoo.load(tmp_path / name / "last.safetensors") for name in ("one", "two"))
    assert all((a == b).all() for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_holdout_is_excluded_from_training_and_validated_on(segzoo_, recipe, tmp_path):
    words = ("train", recipe, "-o", tmp_path / "run", "--set", "run.epochs=1", "--set", "run.batch_size=1")
    assert segzoo_(*words, "--holdout", "*0*").exit_code == 0
    model = segzoo.load(tmp_path / "run" / "last.safetensors")
    assert model.spec.info["trained"]["images"] == 1
    read = read_recipe(tmp_path / "run" / "last.safetensors")
    _, held_out = open_datasets(read)
    assert list(held_out.names) == ["0"]


def test_a_run_is_resumed_on_request_and_never_overwritten(segzoo_, recipe, tmp_path):
    words = ("train", recipe, "-o", tmp_path / "run", "--set", "run.epochs=1")
    assert segzoo_(*words).exit_code == 0
    again = segzoo_(*words)
    assert again.exit_code == 1
    assert "--resume" in again.stderr and "Traceback" not in again.stderr
    assert segzoo_(*words, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "run.epoch=1"], "Did you mean 'run.epochs'"),
        (["--set", "run.epochs"], "An override is KEY=VALUE"),
        (["--set", "data.root=nowhere"], "There is no folder nowhere"),
        (["--set", "model.decoder=unit"], "Did you mean 'unet'"),
        (["--set", "loss.loss=ce+dize"], "Did you mean 'dice'"),
        (["--holdout", "7*", "--set", "run.batch_size=1"], "No image of data train matches '7*'"),
        (["--holdout", "*"], "is left: select="),
    ],
)
def test_mistakes_are_one_line(words, message, segzoo_, recipe, tmp_path):
    done = segzoo_("train", recipe, "-o", tmp_path / "run", *words)
    assert done.exit_code == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_terminal_shows_the_progress(monkeypatch):
    drawn = io.StringIO()
    screen = Console(file=drawn, force_terminal=True, width=120, markup=False, highlight=False)
    monkeypatch.setattr(console, "err", lambda: screen)
    progress = TrainingProgress()
    progress.on_fit_start(0, 2, 4, [])
    progress.on_step_end(1, 1.25)
    progress._live.refresh()
    assert re.search(r"Training .*1/8.*loss 1\.250  mIoU -  \d+:\d\d min left", drawn.getvalue())
    progress.on_validation_batch_end(3, 5)
    progress._live.refresh()
    assert "evaluating 3 of 5" in drawn.getvalue()
    row = {
        "epoch": 1,
        "step": 4,
        "train_loss": 1.0,
        "train_mean_iou": 0.5,
        "val_mean_iou": 0.25,
        "images_per_second": 9,
    }
    progress.on_epoch_end([row])
    progress.on_step_end(5, 1.0)
    progress._live.refresh()
    progress.on_fit_end("All 2 epochs are done.")
    assert "mIoU 25.00 %" in drawn.getvalue() and "val mean IoU 25.00 %, 9.0 images/s" in drawn.getvalue()
    assert "All 2 epochs are done." in drawn.getvalue()


def test_an_unknown_recipe_gets_a_suggestion(segzoo_, tmp_path):
    done = segzoo_("train", "unet_mobilnet_camvid", "-o", tmp_path / "run")
    assert done.exit_code == 1
    assert "Did you mean 'unet_mobilenetv4_conv_small_camvid'" in done.stderr
