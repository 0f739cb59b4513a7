"""Recipes: everything that determines how a model is trained, as frozen dataclasses read from TOML.

    recipe = read_recipe("unet_mobilenetv4_conv_small_camvid.toml", {"run.epochs": 3})

Every checkpoint stores its recipe, and `read_recipe` also reads it from there. A recipe is complete: no code elsewhere
changes its defaults.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from segzoo._arguments import explained
from segzoo._text import load_toml, read_text
from segzoo.errors import OptionError, quoted, some
from segzoo.plugins import import_plugin
from segzoo.schema import Positive, Share, checked
from segzoo.training.overrides import override

Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(ge=0)]

Listed = BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value])
"""A single pattern or step may be written without brackets."""

Strings = Annotated[tuple[str, ...], Listed]


@checked
class ModelConfig:
    """The network: the arguments of `segzoo.create`, with the classes of the data.

    Attributes:
        decoder: a name from `segzoo list`.
        encoder: a name from `segzoo list --encoders`; None selects the decoder's default.
        encoder_weights: as for `segzoo.create`: "imagenet", a file, ...; None starts from random weights.
        output_stride: of the encoder, 8, 16 or 32; None selects the decoder's default.
        options: options of the decoder.
        init_from: a checkpoint of segzoo to start from instead of random weights; a head for other classes is replaced.
    """

    decoder: str = "unet"
    encoder: str | None = None
    encoder_weights: str | None = None
    output_stride: Positive | None = None
    options: dict[str, Any] = field(default_factory=dict)
    init_from: str | None = None


@checked
class DataConfig:
    """The training data: the arguments of `segzoo.data.datasets.open_data`.

    Attributes:
        name: "folder" for your own, or a known data set.
        root: the folder of the data set.
        split: such as "train"; None selects the split to train on.
        select: patterns of the names to include, such as "0001TP*"; empty includes all.
        exclude: patterns of the names to leave out.
    """

    name: str
    root: str
    split: str | None = None
    select: Strings = ()
    exclude: Strings = ()


@checked
class ValidationConfig:
    """The held-out part of the same data set: a split or a selection. No image may be trained on and held out.

    Attributes:
        split: such as "val"; None selects the split to train on.
        select: patterns of the names to hold out; empty holds out all.
        exclude: patterns of the names to leave out.
    """

    split: str | None = None
    select: Strings = ()
    exclude: Strings = ()


@checked
class BordersConfig:
    """U-Net's weight map: the arguments of `segzoo.data.border_weights.BorderWeights`."""

    w0: Number = 10.0
    sigma: Number = 5.0
    background: Count = 0


@checked
class LossConfig:
    """The loss; see `segzoo.training.losses.create_loss`.

    Attributes:
        loss: a sum of losses, such as "ce + 0.5*dice".
        options: the options of each loss by its name, such as {"ce": {"smoothing": 0.1}}.
        class_weights: "none", or "median_frequency" or "enet", computed from the data; see
            `segzoo.data.statistics.ClassStatistics`.
        max_class_weight: the value that class weights are clipped at; 0 disables clipping.
        logit_adjustment: the strength, 0-1, with which the class weights are removed from the logits of the model that
            is evaluated and saved; see `segzoo.training.logit_adjustment`. In a chain of runs, set it in the last one.
        borders: w0, sigma and background of U-Net's weight map for pixels between objects; None disables it.
        auxiliary: the loss weight of the auxiliary head, if the decoder has one.
    """

    loss: str = "ce"
    options: dict[str, Any] = field(default_factory=dict)
    class_weights: Annotated[Literal["none", "median_frequency", "enet"], Field(title="class_weights value")] = "none"
    max_class_weight: Number = 0.0
    logit_adjustment: Annotated[Share, Field(description="a strength, 0-1")] = 0.0
    borders: BordersConfig | None = None
    auxiliary: Number = 0.4


@checked
class OptimizerConfig:
    """The optimizer.

    Attributes:
        name: "adamw", "sgd" (with Nesterov momentum) or "momentum" (SGD with classical momentum, as in Caffe).
        lr: the maximum learning rate, which the schedule multiplies.
        weight_decay: applies to convolutions, not to biases and normalization layers.
        momentum: of "sgd" and "momentum"; the first beta of AdamW.
        clip_grad_norm: the maximum norm of all gradients together; 0 disables clipping.
    """

    name: Annotated[Literal["adamw", "sgd", "momentum"], Field(title="optimizer")] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Number = 0.01
    momentum: Number = 0.9
    clip_grad_norm: Number = 0.0


@checked
class ScheduleConfig:
    """The learning rate schedule; see `segzoo.training.schedule`.

    Attributes:
        name: "constant", "poly", "cosine" or "step".
        warmup: the number of epochs in which the rate rises from 0.
        power: the exponent of "poly".
        milestones: the epochs after which "step" multiplies the rate by `gamma`.
        gamma: the factor of "step".
        min_lr_ratio: the minimum of the schedule, as a fraction of `lr`, 0-1.
    """

    name: Annotated[Literal["constant", "poly", "cosine", "step"], Field(title="schedule")] = "cosine"
    warmup: Number = 0.0
    power: Number = 0.9
    milestones: Annotated[tuple[Number, ...], Listed] = ()
    gamma: Number = 0.1
    min_lr_ratio: Annotated[Share, Field(description="a fraction of the learning rate, 0-1")] = 0.0


@checked
class RunConfig:
    """Length, batches, evaluation and stopping of a run.

    Attributes:
        epochs: the number of passes over the data.
        batch_size: images per optimizer step, over all devices and accumulation steps, so that results do not depend on
            the number of devices (except through batch normalization).
        grad_accum_steps: the number of parts in which a batch is processed, to save memory.
        seed: of weights, order and augmentation.
        ema: the decay of the moving average of the weights, such as 0.999; the average is evaluated and saved. 0
            disables it.
        evaluate_every: the number of epochs between validations.
        patience: the number of epochs without a better mean IoU after which the run stops; 0 disables early stopping.
        freeze_batchnorm: keeps the batch normalization statistics fixed, for small batches on trained weights.
    """

    epochs: Positive = 100
    batch_size: Positive = 8
    grad_accum_steps: Positive = 1
    seed: Count = 0
    ema: Annotated[float, Field(ge=0, lt=1, description="a decay such as 0.999, or 0 for none")] = 0.0
    evaluate_every: Positive = 1
    patience: Count = 0
    freeze_batchnorm: bool = False


@checked
class HardwareConfig:
    """The hardware. A run can be resumed on other hardware.

    Attributes:
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: the number of GPUs per node, or of processes on a CPU.
        nodes: the number of machines; start each with the environment of torchrun, Slurm, or MASTER_ADDR and NODE_RANK.
        precision: "fp32", or mixed precision with "bf16" or "fp16".
        workers: the number of processes per device that read and augment images.
        threads: the number of torch's CPU threads; 0 leaves it to torch.
        channels_last: uses the memory format (N, H, W, C), which is faster for most networks.
        sync_batchnorm: computes batch normalization statistics over all GPUs.
    """

    accelerator: str = "auto"
    devices: Positive = 1
    nodes: Positive = 1
    precision: Annotated[Literal["fp32", "bf16", "fp16"], Field(title="precision")] = "fp32"
    workers: Count = 1
    threads: Count = 0
    channels_last: bool = True
    sync_batchnorm: bool = False


@checked
class Recipe:
    """Everything that determines a training run.

    Attributes:
        note: the purpose of this recipe, in a sentence or two.
        plugins: modules that register decoders, losses, steps or data sets of one's own. They are imported when a .toml
            file is read, and not when a checkpoint is.
        augmentation: the steps, as for `segzoo.data.augment.Augmentation`.
        validation: the held-out data; None disables validation.
    """

    data: DataConfig
    note: str = ""
    plugins: Strings = ()
    model: ModelConfig = field(default_factory=ModelConfig)
    validation: ValidationConfig | None = None
    augmentation: Annotated[
        tuple[dict[str, Any], ...], Listed, Field(description="a table of options, or a list of them")
    ] = ()
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    run: RunConfig = field(default_factory=RunConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)

    def __post_init__(self) -> None:
        run, schedule, loss, hardware = self.run, self.schedule, self.loss, self.hardware
        devices = hardware.devices * hardware.nodes
        parts = devices * run.grad_accum_steps
        faults = {
            f"schedule.warmup must be shorter than the run's {run.epochs} epochs, not {schedule.warmup}": (
                schedule.warmup >= run.epochs
            ),
            f"run.patience={run.patience} needs a [validation], and must be at least "
            f"run.evaluate_every={run.evaluate_every}": (
                run.patience > 0 and (self.validation is None or run.patience < run.evaluate_every)
            ),
            'loss.logit_adjustment removes class weights, but loss.class_weights is "none". Set both, or '
            "loss.logit_adjustment=0": loss.logit_adjustment > 0 and loss.class_weights == "none",
            f"run.batch_size={run.batch_size} cannot be split evenly over {devices} devices and {run.grad_accum_steps} "
            f"accumulation steps. Make it a multiple of {parts}": run.batch_size % parts != 0,
        }
        if any(faults.values()):
            raise OptionError(f"{'; '.join(text for text, is_true in faults.items() if is_true)}.")

    def with_holdout(self, *patterns: str) -> "Recipe":
        """This recipe with part of the training data excluded and used for validation.

        Neighboring images of a drive, a patient or a location are almost identical, so metrics on a random part are
        optimistic. Hold out a whole drive, train, and repeat this for each drive.

        Args:
            patterns: of names, such as "0001TP*"; at least one.

        Raises:
            OptionError: there is no pattern, or the recipe sets data.select.
        """
        if not patterns or self.data.select:
            raise OptionError(
                f"A holdout needs patterns and a recipe without data.select, not {list(patterns)} and "
                f"data.select={list(self.data.select)}. Set data.exclude and validation instead."
            )
        data = dataclasses.replace(self.data, exclude=(*self.data.exclude, *patterns))
        held_out = ValidationConfig(self.data.split, patterns, self.data.exclude)
        return dataclasses.replace(self, data=data, validation=held_out)

    def to_dict(self) -> dict[str, Any]:
        """This recipe as JSON values."""
        record: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_dict`; missing keys have their defaults.

        Raises:
            UnknownNameError: an unknown key; the message suggests similar ones.
            OptionError: an invalid value, or a required key is missing.
        """
        if not isinstance(record, Mapping) or not all(isinstance(key, str) for key in record):
            raise OptionError(f"A recipe is a mapping with sections, not {quoted(record)}.")
        return cls(**record)


@explained
def read_recipe(path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a recipe from a .toml file, or from a checkpoint that was trained with one.

    Args:
        overrides: values by dotted key, such as {"run.epochs": 3}; they replace those of the file.

    Raises:
        UnknownNameError, OptionError: as `Recipe.from_dict`.
        OptionError, CheckpointError: the file is missing, or contains no recipe.
    """
    file = Path(path)
    if file.suffix == ".safetensors":
        from segzoo.weights import checkpoint  # imports torch, which reading a .toml file does not need

        record = checkpoint.read_spec(file).info.get("recipe")
        if not isinstance(record, dict):
            raise OptionError(f"{file} contains no recipe. Write one in TOML.")
        _require_imported(file, record.get("plugins"))
    elif not file.is_file():
        raise OptionError(f"There is no recipe {file}. Pass a .toml file, or a checkpoint that was trained with one.")
    else:
        try:
            record = load_toml(read_text(file))
        except ValueError as error:
            raise OptionError(f"{file} is not TOML: {error}.") from None
    for key, value in (overrides or {}).items():
        override(record, key, value)
    if file.suffix != ".safetensors":
        plugins = record.get("plugins", ())
        for module in [plugins] if isinstance(plugins, str) else plugins if isinstance(plugins, list) else ():
            import_plugin(str(module))
    return Recipe.from_dict(record)


def _require_imported(file: Path, plugins: Any) -> None:
    """A checkpoint never makes segzoo import a module, so the user must have imported those of its recipe."""
    listed = plugins if isinstance(plugins, list) else ()
    absent = [module for module in listed if isinstance(module, str) and module not in sys.modules]
    if absent:
        them = "it" if len(absent) == 1 else "them"
        raise OptionError(
            f"The recipe in {file} needs {some(absent)}, which segzoo does not import because a file says so. If you "
            f"trust {them}, import {them} in Python, or pass --import to the command."
        )


def changes_between(before: Recipe, after: Recipe, ignore: tuple[str, ...] = ()) -> list[str]:
    """The differences between two recipes that lead to different training steps, as text.

    Args:
        ignore: keys or tables to ignore in addition to the note and the hardware.
    """
    ignored = ("note", "hardware", *ignore)
    return [
        f"{key} = {new!r} instead of {old!r}"
        for key, old, new in _differences(before.to_dict(), after.to_dict())
        if key not in ignored and key.partition(".")[0] not in ignored
    ]


def _differences(before: Any, after: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """The differing values of two nested dicts: dotted key, value before, value after."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            difference
            for key in dict.fromkeys([*before, *after])
            for difference in _differences(before.get(key), after.get(key), f"{prefix}.{key}" if prefix else key)
        ]
    return [] if before == after else [(prefix, before, after)]
