"""Recipes: all that decides how a model is trained, as frozen records, read from TOML and kept in each checkpoint.

    recipe = read_recipe("unet_mobilenetv4_conv_small_camvid.toml", {"run.epochs": 3})

A recipe is also read from a checkpoint that was trained by it. Nothing in a record is a default that code elsewhere
changes: what a recipe says is what is done.
"""

import dataclasses
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segzoo.errors import OptionError, unknown
from segzoo.training.schema import override, record_of


@dataclass(frozen=True)
class ModelPart:
    """The network: the arguments of `segzoo.create`; its classes are those of the data.

    Attributes:
        decoder: a name of `segzoo list`.
        encoder: a name of `segzoo list --encoders`; None takes the decoder's own.
        encoder_weights: what `segzoo.create` takes: "imagenet", a file, ...; None starts from random weights.
        output_stride: of the encoder, 8, 16 or 32; None takes the decoder's own.
        options: the decoder's own.
        start: a checkpoint of segzoo to go on from instead of random weights; a head for other classes is exchanged.
    """

    decoder: str = "unet"
    encoder: str | None = None
    encoder_weights: str | None = None
    output_stride: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    start: str | None = None


@dataclass(frozen=True)
class DataPart:
    """What is trained on: the arguments of `segzoo.data.datasets.open_data`.

    Attributes:
        name: "folder" for your own, or a known data set.
        root: the folder that it lies in.
        split: such as "train"; None is the one to train on.
        select: patterns of names to take, such as "0001TP*"; none takes all.
        exclude: patterns of names to leave out.
    """

    name: str
    root: str
    split: str | None = None
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValidationPart:
    """What is held out, of the same data set: a split of its own, or a selection.

    Attributes:
        split: such as "val"; None is the one that is trained on, of which an image may not be in both.
        select: patterns of names to hold out; none holds out all.
        exclude: patterns of names that are not.
    """

    split: str | None = None
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class BordersPart:
    """U-Net's weight map: the arguments of `segzoo.data.border_weights.BorderWeights`."""

    w0: float = 10.0
    sigma: float = 5.0
    background: int = 0


@dataclass(frozen=True)
class LossPart:
    """What is minimised; see `segzoo.training.losses.create_loss`.

    Attributes:
        terms: the sum of losses, such as "ce + 0.5*dice".
        options: of each of them, by its name, such as {"ce": {"smoothing": 0.1}}.
        class_weights: "none", or "median_frequency" or "enet" of the data; see `balance.ClassStatistics`.
        greatest_weight: what class weights are cut off at; 0 does not cut.
        unweigh: the part of the class weights, 0-1, that is taken back from the scores of the model that is evaluated
            and kept; see `balance.unweigh`. Where runs go on from each other it belongs into the last one.
        borders: w0, sigma and background of U-Net's weights for pixels between objects; None has none.
        auxiliary: the weight of the loss of the auxiliary head, where the decoder has one.
    """

    terms: str = "ce"
    options: dict[str, Any] = field(default_factory=dict)
    class_weights: str = "none"
    greatest_weight: float = 0.0
    unweigh: float = 0.0
    borders: BordersPart | None = None
    auxiliary: float = 0.4


@dataclass(frozen=True)
class OptimiserPart:
    """How weights follow gradients.

    Attributes:
        name: "adamw", "sgd" (Nesterov's) or "momentum" (plain SGD with momentum, as Caffe has it).
        lr: the greatest learning rate, which the schedule multiplies.
        weight_decay: of convolutions; biases and what belongs to normalisation have none.
        momentum: of both kinds of SGD; AdamW's first beta.
        clip: the greatest norm of all gradients together; 0 does not clip.
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    momentum: float = 0.9
    clip: float = 0.0


@dataclass(frozen=True)
class SchedulePart:
    """How the learning rate goes; see `segzoo.training.schedule`.

    Attributes:
        name: "constant", "poly", "cosine" or "step".
        warmup: epochs in which it rises from 0.
        power: of "poly".
        milestones: epochs after which "step" multiplies by `gamma`.
        gamma: of "step".
        least: the part of the rate below which it never falls, 0-1.
    """

    name: str = "cosine"
    warmup: float = 0.0
    power: float = 0.9
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    least: float = 0.0


@dataclass(frozen=True)
class RunPart:
    """How long, in which steps, and what is kept.

    Attributes:
        epochs: passes over the data.
        batch: images a step of the optimiser, over all devices and accumulated parts; so results do not depend on how
            many devices there are, but for batch normalisation.
        accumulate: parts that a batch is taken in, where memory is short.
        seed: of weights, order and augmentation.
        ema: decay of the moving average of the weights, such as 0.999, which is what is evaluated and kept; 0 has none.
        evaluate_every: epochs from one validation to the next.
        patience: epochs without a better mean IU after which the run stops; 0 never does.
        freeze_batchnorm: keep the statistics of batch normalisation, for small batches on trained weights.
    """

    epochs: int = 100
    batch: int = 8
    accumulate: int = 1
    seed: int = 0
    ema: float = 0.0
    evaluate_every: int = 1
    patience: int = 0
    freeze_batchnorm: bool = False


@dataclass(frozen=True)
class HardwarePart:
    """What it runs on; a run can be gone on with on other hardware.

    Attributes:
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: GPUs, or processes on the CPU, a node.
        nodes: machines; each is started with the environment of torchrun, Slurm, or MASTER_ADDR and NODE_RANK.
        precision: "fp32", or the mixed "bf16" and "fp16".
        workers: processes that read and augment, for each device.
        threads: of torch on the CPU; 0 leaves that to torch.
        channels_last: lay maps out as (N, H, W, C) in memory, which is faster but for a few networks.
        sync_batchnorm: statistics over all GPUs.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: str = "fp32"
    workers: int = 1
    threads: int = 0
    channels_last: bool = True
    sync_batchnorm: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run.

    Attributes:
        note: what this recipe is for, in a sentence or two.
        augmentation: steps, as `segzoo.data.augment.Augmentation` takes them.
        validation: what is held out; None evaluates nothing.
    """

    data: DataPart
    note: str = ""
    model: ModelPart = field(default_factory=ModelPart)
    validation: ValidationPart | None = None
    augmentation: tuple[dict[str, Any], ...] = ()
    loss: LossPart = field(default_factory=LossPart)
    optimiser: OptimiserPart = field(default_factory=OptimiserPart)
    schedule: SchedulePart = field(default_factory=SchedulePart)
    run: RunPart = field(default_factory=RunPart)
    hardware: HardwarePart = field(default_factory=HardwarePart)

    def __post_init__(self) -> None:
        run, schedule, loss, hardware = self.run, self.schedule, self.loss, self.hardware
        for name, value in [
            ("run.epochs", run.epochs),
            ("run.batch", run.batch),
            ("run.accumulate", run.accumulate),
            ("run.evaluate_every", run.evaluate_every),
            ("optimiser.lr", self.optimiser.lr),
            ("hardware.devices", hardware.devices),
            ("hardware.nodes", hardware.nodes),
        ]:
            _require(value > 0, f"{name} is above 0, not {value}.")
        _require(0 <= run.ema < 1, f"run.ema is a decay such as 0.999, or 0 for none, not {run.ema}.")
        _require(0 <= schedule.least <= 1, f"schedule.least is a part of the rate, 0-1, not {schedule.least}.")
        _require(
            0 <= schedule.warmup < run.epochs,
            f"schedule.warmup is shorter than the run's {run.epochs} epochs, not {schedule.warmup}.",
        )
        _require(
            run.patience == 0 or (self.validation is not None and run.patience >= run.evaluate_every),
            f"run.patience={run.patience} needs a [validation], and at least run.evaluate_every={run.evaluate_every}.",
        )
        _one_of("optimiser", self.optimiser.name, OPTIMISERS)
        _one_of("kind of class weights", loss.class_weights, CLASS_WEIGHTS)
        _one_of("schedule", schedule.name, SCHEDULES)
        _one_of("precision", hardware.precision, PRECISIONS)
        _require(0 <= loss.unweigh <= 1, f"loss.unweigh is a part of the class weights, 0-1, not {loss.unweigh}.")
        _require(
            loss.unweigh == 0 or loss.class_weights != "none",
            'loss.unweigh takes class weights back, and loss.class_weights is "none". Set both, or loss.unweigh=0.',
        )
        parts = hardware.devices * hardware.nodes * run.accumulate
        _require(
            run.batch % parts == 0,
            f"run.batch={run.batch} cannot be shared out among {hardware.devices * hardware.nodes} devices times "
            f"{run.accumulate} parts. Make it a multiple of {parts}.",
        )

    def leaving_out(self, *patterns: str) -> "Recipe":
        """This recipe without a part of what it trains on, which is validated on instead.

        Neighbouring images of one drive, patient or place are nearly the same, so that figures on a random part
        flatter. Leave out one whole, train, and do so for each in turn.

        Args:
            patterns: of names, such as "0001TP*"; at least one.

        Raises:
            OptionError: there is none, or the recipe selects its data itself.
        """
        _require(
            bool(patterns) and not self.data.select,
            f"Leaving out takes patterns and a recipe without data.select, not {list(patterns)} and "
            f"data.select={list(self.data.select)}. Set data.exclude and validation instead.",
        )
        data = dataclasses.replace(self.data, exclude=(*self.data.exclude, *patterns))
        held_out = ValidationPart(self.data.split, patterns, self.data.exclude)
        return dataclasses.replace(self, data=data, validation=held_out)

    def to_dict(self) -> dict[str, Any]:
        """This recipe as JSON values."""
        record: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_dict`, also of a part of it: what is not said has its default.

        Raises:
            UnknownNameError: a key that there is not; near ones are suggested.
            OptionError: a value that a key cannot have, or one that is missing.
        """
        recipe: Recipe = record_of(cls, record)
        return recipe


CLASS_WEIGHTS = ("none", "median_frequency", "enet")
OPTIMISERS = ("adamw", "sgd", "momentum")
SCHEDULES = ("constant", "poly", "cosine", "step")
PRECISIONS = ("fp32", "bf16", "fp16")


def read_recipe(path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Reads a recipe from a .toml file, or from a checkpoint that was trained by one.

    Args:
        overrides: values by dotted keys, such as {"run.epochs": 3}; they count instead of the file's.

    Raises:
        UnknownNameError, OptionError: as `Recipe.from_dict`.
        OptionError, CheckpointError: the file is missing, or holds no recipe.
    """
    file = Path(path)
    if file.suffix == ".safetensors":
        from segzoo.weights import checkpoint  # imports torch, which a mistake in a .toml file need not wait for

        record = checkpoint.read_record(file).get("info", {}).get("recipe")
        if not isinstance(record, dict):
            raise OptionError(f"{file} was trained without a recipe, or its recipe was not kept. Write one in TOML.")
    elif not file.is_file():
        raise OptionError(f"There is no recipe {file}. Pass a .toml file, or a checkpoint that a recipe has made.")
    else:
        try:
            record = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise OptionError(f"{file} is not TOML: {error}.") from None
    for key, value in (overrides or {}).items():
        override(record, key, value)
    return Recipe.from_dict(record)


def changes_between(before: Recipe, after: Recipe, besides: tuple[str, ...] = ()) -> list[str]:
    """What decides other steps in two recipes, in words.

    Args:
        besides: keys, or whole parts, that may differ besides the note and the hardware.
    """
    free = ("note", "hardware", *besides)
    return [
        f"{name} = {new!r} instead of {old!r}"
        for name, old, new in _differences(before.to_dict(), after.to_dict())
        if not any(name == one or name.partition(".")[0] == one for one in free)
    ]


def _differences(before: Any, after: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Where two records differ: dotted key, value before, value after."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = list(dict.fromkeys([*before, *after]))
        return [
            found
            for key in keys
            for found in _differences(before.get(key), after.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if before == after else [(name, before, after)]


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise OptionError(message)


def _one_of(kind: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise unknown(kind, name, known, f"A recipe takes {', '.join(known)}.")
