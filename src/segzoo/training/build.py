"""From a recipe to the things it names: data, network, optimiser, loaders."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from segzoo.classes import LabelSet
from segzoo.data.augment import Augmentation
from segzoo.data.border_weights import BorderWeights
from segzoo.data.dataset import SegmentationData, TrainingSet
from segzoo.data.datasets import open_data
from segzoo.errors import DataError, SegzooError
from segzoo.models.base import SegmentationModel
from segzoo.models.create import create
from segzoo.models.load import load
from segzoo.training.recipe import DataPart, ModelPart, OptimiserPart, Recipe, ValidationPart, read_recipe
from segzoo.weights.catalog import entries
from segzoo.weights.resolve import locate


def open_parts(recipe: Recipe) -> tuple[SegmentationData, SegmentationData | None]:
    """What is trained on, and what is held out.

    Raises:
        DataError: it is not there, there are fewer images than a batch has, or an image is in both; or the weights to
            start from have seen what is held out.
        UnknownNameError: no such data set or split.
    """
    part, held = recipe.data, recipe.validation
    data = _opened(part, part)
    if len(data) < recipe.run.batch:
        raise DataError(f"{data.title} has {len(data)} images, and a batch of the recipe {recipe.run.batch}.")
    if held is None:
        return data, None
    held_out = _opened(part, held)
    both = _images(data) & _images(held_out)
    if both:
        raise DataError(
            f"{len(both)} images are both trained on and held out, {min(both)} among them. Figures on them would say "
            "nothing: exclude them from one."
        )
    for key, source in (("model.start", recipe.model.start), ("model.encoder_weights", recipe.model.encoder_weights)):
        seen = _trained_on(source, part) & _images(held_out)
        if seen:
            raise DataError(
                f"{key}={source} has been trained on {len(seen)} of the images that are held out, {min(seen)} among "
                f"them. Figures on them would say nothing. Let --set {key}=FILE name weights that have not seen them, "
                "such as those of a run with the same --leave-out."
            )
    return data, held_out


def _opened(part: DataPart, chosen: DataPart | ValidationPart) -> SegmentationData:
    """What is chosen of the data set of a part."""
    return open_data(part.name, part.root, chosen.split, select=chosen.select, exclude=chosen.exclude)


def _images(data: SegmentationData) -> set[Path]:
    return {item.image for item in data.items}


def _trained_on(source: str | None, part: DataPart) -> set[Path]:
    """Images of the same data set that weights have seen, and the weights that these went on from, as recipes tell."""
    if source is None or not (source in entries() or Path(source).exists()):
        return set()
    try:
        recipe = read_recipe(locate(source).path)
    except SegzooError:  # not of segzoo, or without a recipe
        return set()
    other, found = recipe.data, set()
    if other.name == part.name and (other.name != "folder" or Path(other.root).resolve() == Path(part.root).resolve()):
        found = _images(_opened(part, other))
    return found | _trained_on(recipe.model.start, part) | _trained_on(recipe.model.encoder_weights, part)


def model_of(part: ModelPart, labels: LabelSet) -> SegmentationModel:
    """The network, in training mode.

    Raises:
        UnknownNameError, OptionError, PairingError, CheckpointError: as `segzoo.create` and `segzoo.load`.
    """
    if part.start is not None:
        return load(part.start, num_classes=len(labels), labels=labels).train()
    return create(
        part.decoder,
        part.encoder,
        labels=labels,
        encoder_weights=part.encoder_weights,
        output_stride=part.output_stride,
        **part.options,
    )


def optimiser_of(part: OptimiserPart, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) or SGD over all weights that are trained.

    Weight decay is for what has more than one axis: neither for biases, nor for the scales of normalisation.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": part.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if part.name in ("sgd", "momentum"):
        nesterov = part.name == "sgd" and part.momentum > 0
        return torch.optim.SGD(groups, part.lr, momentum=part.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, part.lr, betas=(part.momentum, 0.999))


class Loaders(NamedTuple):
    """What one process reads."""

    training: DataLoader[dict[str, Any]]
    """Batches of its part of each batch of the run."""

    held_out: DataLoader[dict[str, Any]] | None
    """Lists of samples as they are, of its part of the held-out images."""

    def begin(self, epoch: int) -> None:
        """Another order, and other augmentation."""
        self.training.dataset.set_epoch(epoch)  # type: ignore[attr-defined]
        self.training.sampler.set_epoch(epoch)  # type: ignore[attr-defined]


def loaders_of(
    recipe: Recipe, data: SegmentationData, held_out: SegmentationData | None, rank: int, world: int
) -> Loaders:
    """The loaders of process number `rank` of `world`.

    Raises:
        DataError: there are fewer held-out images than processes.
        OptionError, UnknownNameError: a step of augmentation that cannot be.
    """
    run, workers = recipe.run, recipe.hardware.workers
    size = run.batch // world // run.accumulate
    borders = recipe.loss.borders
    weigh = None if borders is None else BorderWeights(data.ignored, **asdict(borders))
    augmented = TrainingSet(data, Augmentation(recipe.augmentation, data.ignored), run.seed, weigh)
    # With one process too: the order is the seed's and the epoch's, and each batch is shared out in the same order.
    order: DistributedSampler[Any] = DistributedSampler(augmented, world, rank, seed=run.seed, drop_last=True)
    training = DataLoader(
        augmented,
        size,
        sampler=order,
        num_workers=workers,
        drop_last=True,
        # Its own, since workers that start draw from it: a resumed run starts them in another epoch.
        generator=torch.Generator(),
        persistent_workers=workers > 0,
        pin_memory=recipe.hardware.accelerator != "cpu" and torch.cuda.is_available(),
    )
    if held_out is None:
        return Loaders(training, None)
    if len(held_out) < world:
        raise DataError(f"{held_out.title} holds {len(held_out)} images out, fewer than the {world} processes.")
    return Loaders(training, DataLoader(TrainingSet(held_out[rank::world]), size, num_workers=workers, collate_fn=list))
