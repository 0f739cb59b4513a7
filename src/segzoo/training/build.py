"""Builds the objects that a recipe describes: data, network, loss, optimizer, schedule and loaders."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, Subset

from segzoo.classes import ClassSet
from segzoo.data.augment import Augmentation
from segzoo.data.border_weights import BorderWeights
from segzoo.data.dataset import Augment, LabeledData, PaddedBatch, SegmentationData, TrainingSet
from segzoo.data.datasets import open_data
from segzoo.data.statistics import count_classes
from segzoo.errors import DataError
from segzoo.models.base import SegmentationModel
from segzoo.models.create import create
from segzoo.models.load import load
from segzoo.training.build_loss import build_loss, compute_class_weights
from segzoo.training.lineage import info_of, restarted, trained_on
from segzoo.training.losses import WeightedSum
from segzoo.training.recipe import DataConfig, ModelConfig, OptimizerConfig, Recipe, ValidationConfig
from segzoo.training.schedule import lr_factor

_SURVEYED = 2000
"""Masks that are read before training; more would take longer than most mistakes are worth."""

Schedule = Callable[[int, int, int], float]
"""(step, from 0; steps of the run; steps per epoch) -> the factor of the learning rate."""


@dataclass(frozen=True)
class Parts:
    """The objects that the training loop works with.

    Attributes:
        settings: the numbers of the loop: its tables loss, optimizer, schedule, run and hardware, as far as no object
            below replaces them. The loop does not read the others.
        augment: of the training data; None for none.
        class_weights: those that the loss applies; logit adjustment removes them.
        objects: descriptions of the objects that do not come from the recipe, by the name of the table that they
            replace; empty if the recipe describes the whole run.
    """

    settings: Recipe
    data: LabeledData
    held_out: LabeledData | None
    augment: Augment | None
    model: SegmentationModel
    loss: WeightedSum
    class_weights: Sequence[float]
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    objects: Mapping[str, str] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """What a trained model's file says about its settings: the recipe, or the settings with the objects."""
        recipe = self.settings.to_dict()
        if not self.objects:
            return {"recipe": recipe}
        kept = {
            # What the loop still reads of a table that an object replaces.
            "loss": {"auxiliary": self.settings.loss.auxiliary},
            "optimizer": {"clip_grad_norm": self.settings.optimizer.clip_grad_norm},
        }
        settings = {name: table for name, table in recipe.items() if name not in ("note", "validation")}
        for name, description in self.objects.items():
            settings[name] = {"object": description, **kept.get(name, {})}
        return {"settings": settings}


def build_parts(recipe: Recipe, data: SegmentationData, held_out: SegmentationData | None) -> Parts:
    """The parts of a run by a recipe; `data` and `held_out` are those of `open_datasets`.

    Raises:
        UnknownNameError, OptionError, PairingError, CheckpointError: as `build_model`, `build_loss` and `Augmentation`.
    """
    model = build_model(recipe.model, data.classes)
    class_weights = compute_class_weights(recipe.loss, data)
    return Parts(
        settings=recipe,
        data=data,
        held_out=held_out,
        augment=Augmentation(recipe.augmentation, data.ignore_index),
        model=model,
        loss=build_loss(recipe.loss, data.ignore_index, class_weights),
        class_weights=class_weights,
        optimizer=build_optimizer(recipe.optimizer, model),
        schedule=functools.partial(lr_factor, recipe.schedule),
    )


def open_datasets(recipe: Recipe) -> tuple[SegmentationData, SegmentationData | None]:
    """The training data and the held-out data of a recipe.

    Raises:
        DataError: the data is missing or has fewer images than a batch; an image is in both parts; or the initial
            weights were trained on held-out images.
        UnknownNameError: an unknown data set or split.
    """
    data = _open(recipe.data, recipe.data)
    held_out = None if recipe.validation is None else _open(recipe.data, recipe.validation)
    check_datasets(data, held_out, recipe.run.batch_size, recipe.loss.class_weights != "none")
    if held_out is None:
        return data, None
    for key, source in (
        ("model.init_from", recipe.model.init_from),
        ("model.encoder_weights", recipe.model.encoder_weights),
    ):
        leaked = trained_on(source, recipe.data) & _image_paths(held_out)
        if leaked:
            raise DataError(
                f"{key}={source} has been trained on {len(leaked)} of the images that are held out, such as "
                f"{min(leaked)}, so metrics on them would be meaningless. Use --set {key}=FILE with weights that were "
                "not trained on them, such as those of a run with the same --holdout."
            )
    return data, held_out


def check_datasets(data: LabeledData, held_out: LabeledData | None, batch_size: int, weighted: bool = False) -> None:
    """Checks that there are enough images, that none is both trained on and held out, and that masks can be read.

    A UserWarning names the classes that no pixel of the training data has, or of the held-out data.

    Args:
        weighted: class weights will be computed, which reads every mask of `data` and warns; it is not counted here.

    Raises:
        DataError: otherwise. Images without a file cannot be compared.
    """
    if len(data) < batch_size:
        raise DataError(
            f"{data.title} has {len(data)} images, fewer than the batch size {batch_size}. Lower the batch size."
        )
    shared = _image_paths(data) & _image_paths(held_out)
    if shared:
        raise DataError(
            f"{len(shared)} images are both trained on and held out, such as {min(shared)}, so metrics on them would "
            "be meaningless. Exclude them from one part."
        )
    for part in (None if weighted else data, held_out):
        if part is not None:
            count_classes(part, most=_SURVEYED)


def _open(data: DataConfig, selection: DataConfig | ValidationConfig) -> SegmentationData:
    return open_data(data.name, data.root, selection.split, select=selection.select, exclude=selection.exclude)


def _image_paths(data: LabeledData | None) -> set[Path]:
    return {item.image for item in data.items} if isinstance(data, SegmentationData) else set()


def build_model(config: ModelConfig, classes: ClassSet) -> SegmentationModel:
    """The network, in training mode.

    Raises:
        UnknownNameError, OptionError, PairingError, CheckpointError: as `segzoo.create` and `segzoo.load`.
    """
    if config.init_from is not None:
        model = load(config.init_from, num_classes=len(classes), classes=classes)
        model.spec = restarted(model.spec)
        return model.train()
    model = create(
        config.decoder,
        config.encoder,
        classes=classes,
        encoder_weights=config.encoder_weights,
        output_stride=config.output_stride,
        **config.options,
    )
    encoder_from = info_of(config.encoder_weights)
    return model.with_info(encoder_from=encoder_from) if encoder_from else model


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) or SGD over all trainable parameters.

    Weight decay applies to parameters with more than one axis: not to biases, and not to normalization layers.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.name in ("sgd", "momentum"):
        nesterov = config.name == "sgd" and config.momentum > 0
        return torch.optim.SGD(groups, config.lr, momentum=config.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, config.lr, betas=(config.momentum, 0.999))


class Loaders(NamedTuple):
    """The loaders of one process."""

    training: DataLoader[dict[str, Any]]
    """Batches of this process's share of each batch of the run."""

    held_out: DataLoader[dict[str, Any]] | None
    """Lists of samples, without augmentation, from this process's share of the held-out images."""

    def set_epoch(self, epoch: int) -> None:
        """Changes the order and the augmentation."""
        self.training.dataset.set_epoch(epoch)  # type: ignore[attr-defined]
        self.training.sampler.set_epoch(epoch)  # type: ignore[attr-defined]


def build_loaders(parts: Parts, rank: int, world_size: int) -> Loaders:
    """The loaders of process `rank` of `world_size`.

    Raises:
        DataError: there are fewer held-out images than processes.
    """
    run, hardware, borders = parts.settings.run, parts.settings.hardware, parts.settings.loss.borders
    data, held_out, workers = parts.data, parts.held_out, hardware.workers
    batch_size = run.batch_size // world_size // run.grad_accum_steps
    pixel_weights = None if borders is None else BorderWeights(data.ignore_index, **asdict(borders))
    augmented = TrainingSet(data, parts.augment, run.seed, pixel_weights)
    # Also for a single process: the order depends on the seed and the epoch, and each batch is split in the same order.
    sampler: DistributedSampler[Any] = DistributedSampler(augmented, world_size, rank, seed=run.seed, drop_last=True)
    training = DataLoader(
        augmented,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        drop_last=True,
        collate_fn=PaddedBatch(data.ignore_index),
        # A separate generator: starting workers draws from it, and a resumed run starts them in another epoch.
        generator=torch.Generator(),
        persistent_workers=workers > 0,
        pin_memory=hardware.accelerator != "cpu" and torch.cuda.is_available(),
    )
    if held_out is None:
        return Loaders(training, None)
    if len(held_out) < world_size:
        raise DataError(f"{held_out.title} has {len(held_out)} held-out images, fewer than {world_size} processes.")
    share = Subset(TrainingSet(held_out), range(rank, len(held_out), world_size))
    return Loaders(training, DataLoader(share, batch_size, num_workers=workers, collate_fn=list))
