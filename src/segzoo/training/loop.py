"""The training loop, from top to bottom: what happens in a run, an epoch and a step.

    train(read_recipe("recipe.toml"), "runs/first")

A run's folder holds last.safetensors and best.safetensors (what `segzoo.load` reads; the moving average, where there is
one), resume.pt, and the logs. What is drawn in an epoch depends on the seed, the epoch and the process alone, so a run
that was killed goes on from its last whole epoch with the very steps that it would have made.
"""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from segzoo import factory
from segzoo.errors import DataError, TrainingError
from segzoo.metrics import ConfusionMatrix
from segzoo.model import SegmentationModel, evaluating
from segzoo.training import engine, state
from segzoo.training.augmentation import Augmentation
from segzoo.training.counting import Counts
from segzoo.training.criterion import Criterion
from segzoo.training.data import SegmentationData, TrainingSet
from segzoo.training.datasets import open_data
from segzoo.training.ema import averaged
from segzoo.training.listeners import CsvLog, Listener
from segzoo.training.optimiser import optimiser_of
from segzoo.training.recipe import Recipe
from segzoo.training.schedule import factor

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train(
    recipe: Recipe,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    listeners: Sequence[Listener] = (),
) -> Path:
    """Trains by a recipe.

    With several devices it starts the other processes itself; each runs the calling program from its beginning.

    Args:
        folder: where the run's files go; made if need be.
        resume: go on with the run that the folder holds, or begin where it holds none.
        listeners: told how it goes, besides the logs in the folder.

    Returns:
        the checkpoint of the last epoch, `last.safetensors`; the best one stands beside it as `best.safetensors`.

    Raises:
        TrainingError: the folder holds a run and `resume` is False, or holds another; the run diverged.
        DataError, DeviceError, OptionError, UnknownNameError: the recipe asks for what cannot be had.
    """
    return Run(recipe, Path(folder), resume, listeners).go()


class Run:
    """One run in one process: what it has, and what it does with it."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, listeners: Sequence[Listener]) -> None:
        self.recipe, self.folder = recipe, folder
        if (folder / state.RESUME).exists() and not resume:
            raise TrainingError(f"{folder} holds a run already. Resume it, or choose another folder.")
        self.data, self.held_out = _open(recipe)
        self.steps_an_epoch = len(self.data) // recipe.run.batch
        if self.steps_an_epoch == 0:
            raise DataError(f"{self.data.title} has {len(self.data)} images, and a batch {recipe.run.batch}.")
        self.fabric: Fabric = engine.launch(recipe.hardware)
        self.listeners = [CsvLog(folder), *listeners] if self.fabric.is_global_zero else []
        self._seed(0)
        self.model = _model(recipe, self.data)
        if recipe.hardware.channels_last:
            self.model.to(memory_format=torch.channels_last)
        if recipe.hardware.sync_batchnorm:
            nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]
        self.criterion = self.fabric.to_device(Criterion(recipe.loss.terms, self.data))
        optimiser = optimiser_of(recipe.optimiser, self.model)
        self.network, self.optimiser = self.fabric.setup(self.model, optimiser)
        self.average = averaged(self.model, recipe.run.ema) if recipe.run.ema else None
        self.progress = state.Progress()
        if resume and (folder / state.RESUME).exists():
            self.progress, states = state.read(folder, recipe.to_dict())
            for name, thing in self._stateful().items():
                thing.load_state_dict(states[name])
        folder.mkdir(parents=True, exist_ok=True)

    def go(self) -> Path:
        """All epochs that are left."""
        run, progress = self.recipe.run, self.progress
        loader, held_out = self._loaders()
        self._tell("begins", progress.epoch, run.epochs, self.steps_an_epoch, progress.history)
        try:
            for epoch in range(progress.epoch, run.epochs):
                if run.patience and epoch - progress.best_epoch >= run.patience:
                    break
                start = time.perf_counter()
                row = {"epoch": epoch + 1, **self._train_epoch(epoch, loader)}
                due = (epoch + 1) % run.evaluate_every == 0 or epoch + 1 == run.epochs
                if held_out is not None and due:
                    row |= self._evaluate(held_out)
                progress.seconds += time.perf_counter() - start
                progress.history.append(row | {"seconds": progress.seconds})
                self._keep(epoch, row.get("val_mean_iu"))
        finally:
            self._tell("ends")
        return self.folder / "last.safetensors"

    def _train_epoch(self, epoch: int, loader: Any) -> dict[str, float]:
        self._seed(epoch)
        self.data_set.set_epoch(epoch)
        loader.sampler.set_epoch(epoch)
        self.model.train()
        if self.recipe.run.freeze_batchnorm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        counts = Counts(self.model.config.num_classes, self.data.ignored, self.fabric.device)
        batches = iter(loader)
        total = waited = 0.0
        start = time.perf_counter()
        for _ in range(self.steps_an_epoch):
            before = time.perf_counter()
            parts = [next(batches) for _ in range(self.recipe.run.accumulate)]
            waited += time.perf_counter() - before
            loss = self._step(parts, counts)
            total += loss
            self._tell("step", self.progress.step, loss)
        seconds = time.perf_counter() - start
        matrix = self._whole(counts)
        return {
            "step": self.progress.step,
            "lr": self.optimiser.param_groups[0]["lr"],
            "train_loss": total / self.steps_an_epoch,
            **_figures("train", matrix),
            "images_per_second": self.steps_an_epoch * self.recipe.run.batch / seconds,
            "input_wait": waited / seconds,
        }

    def _step(self, parts: list[dict[str, Any]], counts: Counts) -> float:
        """One step of the optimiser on a batch that is shared out among processes and parts; gives its loss."""
        recipe = self.recipe
        rate = recipe.optimiser.lr * factor(
            recipe.schedule, self.progress.step, recipe.run.epochs * self.steps_an_epoch, self.steps_an_epoch
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        # A part counts as much as it has labelled pixels, as if the batch were one.
        labelled = [(part["mask"] != self.data.ignored).sum().float() for part in parts]
        everywhere = self._over_all(torch.stack(labelled).sum()) / self.fabric.world_size
        shares = [one / everywhere.clamp(min=1) for one in labelled]
        loss = torch.zeros((), device=self.fabric.device)
        for place, (part, share) in enumerate(zip(parts, shares, strict=True)):
            with self.fabric.no_backward_sync(self.network, enabled=place + 1 < len(parts)):
                logits, second = self.network(self.model.normalise(part["image"]), auxiliary=True)
                value = self.criterion(logits, part["mask"])
                if second is not None:
                    value = value + recipe.loss.auxiliary * self.criterion(second, part["mask"])
                value = value * share
                self.fabric.backward(value)
            loss += value.detach()
            counts.update(logits.detach(), part["mask"])
        if recipe.optimiser.clip:
            self.fabric.clip_gradients(self.network, self.optimiser, max_norm=recipe.optimiser.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.progress.step += 1
        found = float(self._over_all(loss)) / self.fabric.world_size
        if not np.isfinite(found):
            raise TrainingError(f"Step {self.progress.step}: the loss is {found}.")
        return found

    @torch.no_grad()
    def _evaluate(self, loader: Any) -> dict[str, float]:
        """The figures on the held-out images, of the average where there is one."""
        model = self._kept()
        counts = Counts(self.model.config.num_classes, self.data.ignored, self.fabric.device)
        sums = torch.zeros(2, device=self.fabric.device, dtype=torch.float64)
        with evaluating(model), self.fabric.autocast():
            done = 0
            for samples in loader:
                for batch in _same_size(samples):
                    images, masks = (self.fabric.to_device(torch.stack(batch[key])) for key in ("image", "mask"))
                    logits = model(self.model.normalise(images)).float()
                    counts.update(logits, masks)
                    labelled = (masks != self.data.ignored).sum()
                    sums += torch.stack([self.criterion(logits, masks) * labelled, labelled])
                done += len(samples)
                self._tell("evaluating", done, len(loader.dataset))
        loss, labelled = self._over_all(sums).tolist()
        return {"val_loss": loss / max(1, labelled), **_figures("val", self._whole(counts))}

    def _keep(self, epoch: int, mean_iu: float | None) -> None:
        """Writes what the epoch has made, the resume file last: a run killed before that makes the epoch again."""
        progress = self.progress
        progress.epoch = epoch + 1
        better = mean_iu is None or mean_iu > progress.best
        if better and mean_iu is not None:
            progress.best, progress.best_epoch = mean_iu, epoch + 1
        if self.fabric.is_global_zero:
            model = self._kept()
            model.with_info(recipe=self.recipe.to_dict(), trained=self._trained())
            factory.save(model, self.folder / "last.safetensors")
            if better:
                factory.save(model, self.folder / "best.safetensors")
            self._tell("epoch", progress.history)
            states = {name: thing.state_dict() for name, thing in self._stateful().items()}
            state.write(self.folder, progress, self.recipe.to_dict(), states)
        self.fabric.barrier()

    def _trained(self) -> dict[str, Any]:
        """What a checkpoint says of its training."""
        return {
            "data": self.data.title,
            "images": len(self.data),
            "seconds": round(self.progress.seconds, 1),
            "device": torch.cuda.get_device_name() if self.fabric.device.type == "cuda" else str(self.fabric.device),
            "processes": self.fabric.world_size,
            **self.progress.history[-1],
        }

    def _kept(self) -> SegmentationModel:
        """The model that is evaluated and kept: the moving average, where there is one."""
        return self.model if self.average is None else cast(SegmentationModel, self.average.module)

    def _stateful(self) -> dict[str, Any]:
        things = {"model": self.model, "optimiser": self.optimiser, "precision": self.fabric.strategy.precision}
        return things if self.average is None else things | {"average": self.average}

    def _loaders(self) -> tuple[Any, Any]:
        run, workers = self.recipe.run, self.recipe.hardware.workers
        rank, world = self.fabric.global_rank, self.fabric.world_size
        size = run.batch // world // run.accumulate
        self.data_set = TrainingSet(self.data, Augmentation(self.recipe.augmentation, self.data.ignored), run.seed)
        sampler: DistributedSampler[Any] = DistributedSampler(
            self.data_set, world, rank, shuffle=True, seed=run.seed, drop_last=True
        )
        loader: Any = self.fabric.setup_dataloaders(
            DataLoader(
                *(self.data_set, size),
                sampler=sampler,
                num_workers=workers,
                drop_last=True,
                persistent_workers=workers > 0,
            ),
            use_distributed_sampler=False,
        )
        if self.held_out is None:
            return loader, None
        if len(self.held_out) < world:
            raise DataError(f"{self.held_out.title} has fewer images than there are processes, {world}.")
        mine = TrainingSet(self.held_out[rank::world])
        return loader, DataLoader(mine, size, num_workers=workers, collate_fn=list)

    def _whole(self, counts: Counts) -> ConfusionMatrix:
        return counts.matrix(self._over_all(counts.table))

    def _over_all(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        return cast(Tensor, self.fabric.all_reduce(tensor, reduce_op="sum"))

    def _seed(self, epoch: int) -> None:
        """Of what the network itself draws, such as dropout; other in each process."""
        words = np.random.SeedSequence([self.recipe.run.seed, epoch, self.fabric.global_rank])
        torch.manual_seed(int(words.generate_state(1, np.uint64)[0]) % 2**63)

    def _tell(self, what: str, *facts: Any) -> None:
        for listener in self.listeners:
            getattr(listener, what)(*facts)


def _open(recipe: Recipe) -> tuple[SegmentationData, SegmentationData | None]:
    part, held = recipe.data, recipe.validation
    data = open_data(part.name, part.root, part.split, select=part.select, exclude=part.exclude)
    if held is None:
        return data, None
    return data, open_data(part.name, part.root, held.split, select=held.select, exclude=held.exclude)


def _model(recipe: Recipe, data: SegmentationData) -> SegmentationModel:
    part = recipe.model
    if part.start is not None:
        return factory.load(part.start, num_classes=len(data.labels), labels=data.labels).train()
    return factory.create(
        part.decoder,
        part.encoder,
        labels=data.labels,
        encoder_weights=part.encoder_weights,
        output_stride=part.output_stride,
        **part.options,
    )


def _same_size(samples: list[dict[str, Any]]) -> Iterator[dict[str, list[Tensor]]]:
    """Batches of neighbours of one size: padding to a common size would change what is predicted at the borders."""
    for _, group in itertools.groupby(samples, lambda sample: sample["mask"].shape):
        same = list(group)
        yield {key: [sample[key] for sample in same] for key in ("image", "mask")}


def _figures(part: str, matrix: ConfusionMatrix) -> dict[str, float]:
    return {
        f"{part}_mean_iu": matrix.mean_iu,
        f"{part}_accuracy": matrix.pixel_accuracy,
        f"{part}_mean_accuracy": matrix.mean_accuracy,
    }
