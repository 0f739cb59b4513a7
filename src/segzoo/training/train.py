"""`segzoo.train`: trains a model object on a data object.

It checks its arguments, turns names and tables into objects, and passes them to the loop that recipes use
(`segzoo.training.fit`).
"""

import functools
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from segzoo.classes import ClassSet
from segzoo.data.augment import Augmentation
from segzoo.data.dataset import Augment, LabeledData, SegmentationData, TrainingSet
from segzoo.data.pairs import PairData
from segzoo.errors import DataError, DeviceError, OptionError, TrainingError, UnknownNameError
from segzoo.models.base import SegmentationModel, evaluating
from segzoo.training import engine
from segzoo.training.build import Parts, Schedule, build_optimizer, check_datasets
from segzoo.training.build_loss import build_loss, compute_class_weights
from segzoo.training.callbacks import Callback, Row, logs
from segzoo.training.evaluate import check_classes
from segzoo.training.fit import BEST, LAST, Run
from segzoo.training.lineage import restarted
from segzoo.training.losses import WeightedSum
from segzoo.training.own_objects import CallableLoss, describe, own_optimizer, own_schedule
from segzoo.training.recipe import HardwareConfig, LossConfig, OptimizerConfig, Recipe, RunConfig, ScheduleConfig
from segzoo.training.run_folder import check_free
from segzoo.training.schedule import lr_factor

Table = Mapping[str, Any]
"""A table of a recipe, such as {"name": "sgd", "momentum": 0.95}; missing keys have their defaults."""

_LOSS, _OPTIMIZER, _SCHEDULE, _RUN, _HARDWARE = (
    LossConfig(),
    OptimizerConfig(),
    ScheduleConfig(),
    RunConfig(),
    HardwareConfig(),
)

_TABLES = {"loss": _LOSS, "optimizer": _OPTIMIZER, "schedule": _SCHEDULE, "run": _RUN, "hardware": _HARDWARE}
_KEYS = re.compile("|".join(rf"\b{table}\.(?={key}\b)" for table, config in _TABLES.items() for key in vars(config)))


@dataclass(frozen=True)
class TrainingResult:
    """What `segzoo.train` returns.

    Attributes:
        model: the trained model, the same object that was passed.
        history: one row of metrics per epoch, as in log.csv.
        best_mean_iou: the best mean IoU on the validation data, 0-1; None without validation.
        best_epoch: the epoch in which it was reached, from 1; None without validation.
        reason: why training ended, as a sentence.
        last: the checkpoint of the last epoch; None without an output folder.
        best: the checkpoint of the best epoch; None without an output folder or without validation.
    """

    model: SegmentationModel
    history: tuple[Row, ...]
    best_mean_iou: float | None
    best_epoch: int | None
    reason: str
    last: Path | None
    best: Path | None


def train(
    model: SegmentationModel,
    data: SegmentationData | Any,
    *,
    validation: SegmentationData | Any | None = None,
    output: str | os.PathLike[str] | None = None,
    resume: bool = False,
    augmentation: Sequence[Table] | Augment | None = None,
    loss: str | Table | Callable[[Tensor, Tensor], Tensor] = _LOSS.loss,
    auxiliary: float | None = None,
    optimizer: str | Table | torch.optim.Optimizer | Callable[..., torch.optim.Optimizer] = _OPTIMIZER.name,
    lr: float | None = None,
    clip_grad_norm: float | None = None,
    schedule: str | Table | Callable[[float], float] = _SCHEDULE.name,
    epochs: int = _RUN.epochs,
    batch_size: int = _RUN.batch_size,
    grad_accum_steps: int = _RUN.grad_accum_steps,
    seed: int = _RUN.seed,
    ema: float = _RUN.ema,
    evaluate_every: int = _RUN.evaluate_every,
    patience: int = _RUN.patience,
    freeze_batchnorm: bool = _RUN.freeze_batchnorm,
    accelerator: str = _HARDWARE.accelerator,
    devices: int = _HARDWARE.devices,
    nodes: int = _HARDWARE.nodes,
    precision: str = _HARDWARE.precision,
    workers: int = _HARDWARE.workers,
    threads: int = _HARDWARE.threads,
    channels_last: bool = _HARDWARE.channels_last,
    sync_batchnorm: bool = _HARDWARE.sync_batchnorm,
    callbacks: Sequence[Callback] = (),
) -> TrainingResult:
    """Trains a model in place, with the loop and the defaults of recipes.

    data = segzoo.data.datasets.open_data("folder", "mydata", "train")
    model = segzoo.create("unet", encoder="mobilenet", num_classes=len(data.classes))
    result = segzoo.train(model, data, epochs=20, output="runs/mine")

    Afterwards the model is on the device that it was trained on, each of its modules is in its previous mode, and its
    weights are those that were evaluated last: with `ema`, the moving average. If its classes were only numbered, it
    takes those of the data. Arguments that are not listed below are keys of a recipe's tables [run] and [hardware].

    Args:
        model: from `segzoo.create` or `segzoo.load`. Parameters that do not require gradients are not trained.
        data: a `SegmentationData`, or a torch Dataset with a length whose elements are (image, mask): uint8
            (H, W, channels), 0-255, and integers (H, W) in the classes of the model, or its `ignore_index` (255 if it
            has none). Images of a batch that differ in size are padded at the right and the bottom.
        validation: held-out data of the same type; None disables validation.
        output: a folder for the files of a run, as `segzoo.training.fit.train` writes them; None writes nothing.
        resume: resume the run in `output`, or start a new one if there is none. Pass the same arguments. The states of
            model, optimizer and loss are restored. Those of your callbacks, and random numbers that augmentation or
            data draw from a generator other than torch's, are not. Your own objects are compared by name only.
        augmentation: of the training data: steps, as for `Augmentation`, or a callable (image, mask) -> (image, mask)
            on numpy arrays.
        loss: a sum of losses, such as "ce + 0.5*dice"; the table [loss]; or a callable (logits, target) -> scalar, such
            as an nn.Module, with float32 (N, classes, H, W) and int64 (N, H, W). It has to leave out the pixels with
            `ignore_index`.
        auxiliary: the loss weight of the auxiliary head, if the model has one; None selects the recipe's default.
        optimizer: a name; the table [optimizer]; an optimizer of the model's parameters; or a callable that makes one
            from a list of parameters, such as `functools.partial(torch.optim.SGD, lr=0.1)`.
        lr: the maximum learning rate; None selects the recipe's default. Your own optimizer has its own, one per group.
        clip_grad_norm: the maximum norm of all gradients together; None or 0 disables clipping.
        schedule: a name; the table [schedule]; or a callable that maps the completed share of the run, 0-1, to the
            factor of the learning rate.
        callbacks: called in addition to the logs that a run with `output` writes.

    Raises:
        OptionError, UnknownNameError: an argument has the wrong type or value.
        DataError: the data is empty, has fewer images than a batch, is also held out, cannot be read, or has other
            classes than the model.
        TrainingError: `output` contains a run and `resume` is False, or a run with other arguments; the run diverged.
        MissingPackageError: the extra "train" is not installed.
        DeviceError: the requested device is unavailable.
    """
    _check_model(model)
    folder = _check_output(output, resume)
    _check_callbacks(callbacks)
    tables: dict[str, Any] = {
        "data": {"name": "objects", "root": ""},
        "validation": None if validation is None else {},
        "augmentation": () if augmentation is None or callable(augmentation) else augmentation,
        "loss": _table("loss", loss, "loss", auxiliary=auxiliary),
        "optimizer": _table("optimizer", optimizer, "name", lr=lr, clip_grad_norm=clip_grad_norm),
        "schedule": _table("schedule", schedule, "name"),
        "run": {
            "epochs": epochs,
            "batch_size": batch_size,
            "grad_accum_steps": grad_accum_steps,
            "seed": seed,
            "ema": ema,
            "evaluate_every": evaluate_every,
            "patience": patience,
            "freeze_batchnorm": freeze_batchnorm,
        },
        "hardware": {
            "accelerator": accelerator,
            "devices": devices,
            "nodes": nodes,
            "precision": precision,
            "workers": workers,
            "threads": threads,
            "channels_last": channels_last,
            "sync_batchnorm": sync_batchnorm,
        },
    }
    with _argument_names():
        settings = Recipe.from_dict(tables)
        training = _labeled(data, "data", model.classes)
        check_classes(model.classes, training, f"Create it with num_classes={len(training.classes)}, or classes=.")
        held_out = None if validation is None else _labeled(validation, "validation", training.classes)
        if held_out is not None:
            check_classes(model.classes, held_out, "Validate it on data with the classes that it is trained on.")
        if validation is data:
            raise DataError("data and validation are the same object. Hold out images that are not trained on.")
        check_datasets(training, held_out, batch_size, settings.loss.class_weights != "none")
        parts = _build_parts(settings, model, training, held_out, augmentation, loss, optimizer, schedule)
        _check_samples(parts)
        fabric = engine.launch(settings.hardware)
        _adopt_data(model, training)
    with evaluating(model):  # restores the mode of each module
        with _argument_names():
            run = Run(parts, fabric, folder, resume, [*(() if folder is None else logs(folder)), *callbacks])
        reason = run.fit()
        run.finish()
    return _result(run, reason)


def _result(run: Run, reason: str) -> TrainingResult:
    progress, folder = run.progress, run.folder
    improved = progress.best_epoch > 0
    return TrainingResult(
        model=run.model,
        history=tuple(progress.history),
        best_mean_iou=progress.best if improved else None,
        best_epoch=progress.best_epoch if improved else None,
        reason=reason,
        last=None if folder is None else folder / LAST,
        best=None if folder is None or not improved else folder / BEST,
    )


def _check_model(model: Any) -> None:
    if not isinstance(model, SegmentationModel):
        raise OptionError(
            f"segzoo.train takes a model from segzoo.create or segzoo.load, not {type(model).__name__}. "
            "To train with a recipe, use segzoo.training.fit.train."
        )
    if model.spec.task != "multiclass":
        raise OptionError(f"segzoo.train trains multiclass models, not {model.spec.task} ones. Write your own loop.")
    if not any(p.requires_grad for p in model.parameters()):
        raise OptionError("No parameter of the model requires gradients. Call model.requires_grad_() on what to train.")


def _check_output(output: Any, resume: Any) -> Path | None:
    if output is None:
        if resume:
            raise OptionError("resume=True needs output=, the folder of the run.")
        return None
    if not isinstance(output, str | os.PathLike):
        raise OptionError(f"output must be a folder or None, not {output!r}.")
    folder = Path(output)
    check_free(folder, resume)
    return folder


def _check_callbacks(callbacks: Any) -> None:
    if not isinstance(callbacks, Sequence) or not all(isinstance(callback, Callback) for callback in callbacks):
        raise OptionError(
            f"callbacks must be a list of instances of segzoo.training.callbacks.Callback, not {callbacks!r}."
        )


def _table(argument: str, value: Any, key: str, **further: float | None) -> dict[str, Any]:
    """The recipe's table for an argument that is a name, a table or an object, with further arguments in it."""
    table: dict[str, Any]
    if isinstance(value, str):
        table = {key: value}
    elif isinstance(value, Mapping):
        table = dict(value)
    elif callable(value) or isinstance(value, torch.optim.Optimizer):
        table = {}
    else:
        raise OptionError(
            f"{argument} must be a name, a table of options or an object that can be called, not {value!r}."
        )
    for name, number in further.items():
        if number is None:
            continue
        if name in table:
            raise OptionError(f"{name} is given twice: as {name}= and in {argument}=. Leave one out.")
        table[name] = number
    return table


@contextmanager
def _argument_names() -> Iterator[None]:
    """Replaces the keys of recipes in error messages by the names of arguments: "run.epochs" by "epochs"."""
    try:
        yield
    except (OptionError, UnknownNameError, DeviceError, TrainingError) as error:  # others name files
        raise type(error)(_KEYS.sub("", str(error)).replace(" of a recipe", "")) from error


def _labeled(data: Any, argument: str, classes: ClassSet) -> LabeledData:
    """The data with the interface that the loop needs; `classes` are those of pairs."""
    data = _subset(data)
    return data if isinstance(data, SegmentationData) else PairData(data, classes, argument)


def _subset(data: Any) -> Any:
    """A `SegmentationData` for torch's Subset of one, which `random_split` returns; anything else as it is."""
    if not isinstance(data, Subset):
        return data
    whole = _subset(data.dataset)
    return whole.take(data.indices) if isinstance(whole, SegmentationData) else data


def _build_parts(
    settings: Recipe,
    model: SegmentationModel,
    data: LabeledData,
    held_out: LabeledData | None,
    augmentation: Any,
    loss: Any,
    optimizer: Any,
    schedule: Any,
) -> Parts:
    objects = {"model": model.spec.title, "data": _describe_data(data)}
    if held_out is not None:
        objects["validation"] = _describe_data(held_out)
    if callable(augmentation):
        augment, objects["augmentation"] = augmentation, describe(augmentation)
    else:
        augment = Augmentation(settings.augmentation, data.ignore_index) if settings.augmentation else None
    class_weights = compute_class_weights(settings.loss, data)
    if isinstance(loss, str | Mapping):
        criterion = build_loss(settings.loss, data.ignore_index, class_weights)
    else:
        criterion = WeightedSum([(1.0, CallableLoss(data.classes, loss))])
        objects["loss"] = describe(loss)
    if isinstance(optimizer, str | Mapping):
        built = build_optimizer(settings.optimizer, model)
    else:
        built = own_optimizer(optimizer, model)
        objects["optimizer"] = describe(optimizer)
    factor: Schedule = functools.partial(lr_factor, settings.schedule)
    if not isinstance(schedule, str | Mapping):
        factor = own_schedule(schedule)
        objects["schedule"] = describe(schedule)
    return Parts(settings, data, held_out, augment, model, criterion, class_weights, built, factor, objects)


def _check_samples(parts: Parts) -> None:
    """Reads the first sample of each part, and augments it, so that mistakes are reported before training."""
    channels = parts.model.spec.in_channels
    for part, augment in ((parts.data, parts.augment), (parts.held_out, None)):
        if part is None:
            continue
        shape = tuple(TrainingSet(part, augment)[0]["image"].shape)
        if shape[2] != channels:
            raise OptionError(
                f"The model takes images with {channels} channels, but the first of {part.title} is {shape}. Create "
                f"the model with in_channels={shape[2]}."
            )
    try:
        parts.info()
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"Tables of options must hold JSON values: {error}. Pass an object instead, such as a loss from "
            "segzoo.training.losses.create_loss."
        ) from None
    if parts.settings.hardware.workers and torch.multiprocessing.get_start_method() != "fork":
        try:
            pickle.dumps((parts.data, parts.held_out, parts.augment))
        except Exception as error:  # pickle's exceptions have no common base class
            raise OptionError(
                f"Data or augmentation cannot be sent to another process: {error}. Define them in a module instead of "
                "a function, or set workers=0."
            ) from None


def _adopt_data(model: SegmentationModel, data: LabeledData) -> None:
    """Gives the model the data's classes if its own are only numbered; facts about earlier training get a key."""
    spec = model.spec
    if spec.classes.names != data.classes.names:  # `check_classes` accepts generic names only
        spec = spec.replace(classes=data.classes)
    model.spec = restarted(spec)


def _describe_data(data: LabeledData) -> str:
    return f"{data.description if isinstance(data, PairData) else data.title}, {len(data)} images"
