"""The logs of a run."""

import csv
from pathlib import Path

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from segzoo.training.callbacks import logs

HISTORY = [
    {"epoch": 1, "step": 2, "lr": 0.1, "train_loss": 2.0, "train_mean_iou": 0.1, "train_accuracy": 0.2},
    {
        "epoch": 2,
        "step": 4,
        "lr": 0.1,
        "train_loss": 1.0,
        "train_mean_iou": 0.2,
        "train_accuracy": 0.3,
        "val_loss": 3.0,
    },
]


def write_logs(folder: Path, history: list[dict[str, float]], epoch: int = 0) -> None:
    for log in logs(folder):
        log.on_fit_start(epoch, 3, 2, history[:epoch])
        for row in history[epoch:]:
            for step in (row["step"] - 1, row["step"]):
                log.on_step_end(step, 10.0 * step)
            log.on_epoch_end(history[: row["epoch"]])
        log.on_fit_end("done")


def test_the_csv_has_a_column_for_every_metric_of_any_epoch(tmp_path):
    write_logs(tmp_path, HISTORY)
    with (tmp_path / "log.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first["val_loss"] == "" and second["val_loss"] == "3.0"
    assert (first["step"], second["train_loss"]) == ("2", "1.0")


def test_the_curves_are_an_image(tmp_path):
    write_logs(tmp_path, HISTORY)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 800
        colors = {color for _, color in picture.convert("RGB").getcolors(2**20)}
    assert {(31, 119, 180), (214, 39, 40)} <= colors  # both lines are drawn


def test_tensorboard_shows_training_and_validation_in_one_chart(tmp_path):
    write_logs(tmp_path, HISTORY)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"step/loss", "loss/train", "loss/val", "mean_iou/train", "run/lr"} <= set(events.Tags()["scalars"])
    assert [(event.step, event.value) for event in events.Scalars("loss/train")] == [(2, 2.0), (4, 1.0)]
    assert [event.value for event in events.Scalars("step/loss")] == [10, 20, 30, 40]


def test_tensorboard_discards_the_epoch_that_is_repeated(tmp_path):
    write_logs(tmp_path, HISTORY)
    write_logs(tmp_path, HISTORY, epoch=1)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("step/loss")] == [1, 2, 3, 4]
