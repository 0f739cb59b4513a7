"""The training loop, from top to bottom: what happens in a run, an epoch and a step.

    train(read_recipe("recipe.toml"), "runs/first")

A run's folder holds last.safetensors and best.safetensors (what `segzoo.load` reads; the moving average, where there is
one), resume.pt, and the logs. What is drawn in an epoch depends on the seed, the epoch and the process alone, so a run
that was killed goes on from its last whole epoch with the very steps that it would have made.
"""

import itertools
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from segzoo.errors import OptionError, TrainingError
from segzoo.metrics import ConfusionMatrix
from segzoo.models.base import SegmentationModel, evaluating
from segzoo.models.create import save
from segzoo.training import build, checkpoint, engine
from segzoo.training.build_loss import class_weights_of, criterion_of
from segzoo.training.callbacks import Listener, logs
from segzoo.training.class_balance import unweighed
from segzoo.training.confusion_meter import Counts
from segzoo.training.divergence import cause_of
from segzoo.training.ema import averaged
from segzoo.training.recipe import Recipe
from segzoo.training.run_folder import RESUME, check_free
from segzoo.training.schedule import factor

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LAST, BEST = "last.safetensors", "best.safetensors"


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
        listeners: told how it goes, besides the logs that each run has.

    Returns:
        the checkpoint of the last epoch, last.safetensors; the best one stands beside it as best.safetensors.

    Raises:
        TrainingError: the folder holds a run and `resume` is False, or holds another; the run diverged.
        DataError, DeviceError, OptionError, UnknownNameError: the recipe asks for what cannot be had.
    """
    return Run(recipe, Path(folder), resume, listeners).go()


class Run:
    """One process of a run: what it has, and what it does with it."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, listeners: Sequence[Listener]) -> None:
        self.recipe, self.folder = recipe, folder
        check_free(folder, resume)
        data, held_out = build.open_parts(recipe)
        self.steps_an_epoch = len(data) // recipe.run.batch
        self.fabric: Fabric = engine.launch(recipe.hardware)
        self.listeners = [*logs(folder), *listeners] if self.fabric.is_global_zero else []
        self._seed(0)
        self.model = build.model_of(recipe.model, data.labels)
        if recipe.hardware.channels_last:
            self.model.to(memory_format=torch.channels_last)
        if recipe.hardware.sync_batchnorm:
            if self.fabric.device.type != "cuda":
                raise OptionError("hardware.sync_batchnorm needs GPUs. On the CPU, run.freeze_batchnorm can be had.")
            nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]
        self.class_weights = class_weights_of(recipe.loss, data)
        self.criterion = criterion_of(recipe.loss, data.ignored, self.class_weights).to(self.fabric.device)
        self.network, self.optimiser = self.fabric.setup(self.model, build.optimiser_of(recipe.optimiser, self.model))
        self.average = averaged(self.model, recipe.run.ema) if recipe.run.ema else None
        with self._kept():  # refuses a model that class weights cannot be taken back from before it is trained
            pass
        self.data, self.loaders = (
            data,
            build.loaders_of(recipe, data, held_out, self.fabric.global_rank, self.fabric.world_size),
        )
        self.progress = checkpoint.Progress()
        if resume and (folder / RESUME).exists():
            self.progress, states = checkpoint.read(folder, recipe)
            for name, thing in self._stateful().items():
                thing.load_state_dict(states[name])
        folder.mkdir(parents=True, exist_ok=True)

    def go(self) -> Path:
        """All epochs that are left."""
        run, progress = self.recipe.run, self.progress
        self._tell("begins", progress.epoch, run.epochs, self.steps_an_epoch, progress.history)
        why = f"All {run.epochs} epochs are done."
        try:
            for epoch in range(progress.epoch, run.epochs):
                if run.patience and epoch - progress.best_epoch >= run.patience:
                    why = f"Stopped after epoch {epoch}: none has been better since epoch {progress.best_epoch}."
                    break
                start = time.perf_counter()
                row = {"epoch": epoch + 1, **self._train_epoch(epoch)}
                if (epoch + 1) % run.evaluate_every == 0 or epoch + 1 == run.epochs:
                    row |= self._evaluate()
                progress.seconds += time.perf_counter() - start
                progress.history.append(row | {"seconds": progress.seconds})
                self._keep(epoch, row.get("val_mean_iu", math.nan))
        except BaseException as error:
            why = f"Stopped by {type(error).__name__}."
            raise
        finally:
            self._tell("ends", why)
        return self.folder / LAST

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self._seed(epoch)
        self.loaders.begin(epoch)
        self.model.train()
        if self.recipe.run.freeze_batchnorm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        counts = self._counts()
        batches = iter(self.loaders.training)
        total = waited = 0.0
        start = time.perf_counter()
        for _ in range(self.steps_an_epoch):
            before = time.perf_counter()
            parts = [next(batches) for _ in range(self.recipe.run.accumulate)]
            waited += time.perf_counter() - before
            loss = self._step([self.fabric.to_device(part) for part in parts], counts)
            total += loss
            self._tell("step", self.progress.step, loss)
        if not all(tensor.isfinite().all() for tensor in self.model.state_dict().values()):
            raise self._diverged(loss)  # before anything of it is kept
        seconds = time.perf_counter() - start
        return {
            "step": self.progress.step,
            "lr": self.optimiser.param_groups[0]["lr"],
            "train_loss": total / self.steps_an_epoch,
            **_figures("train", self._matrix(counts)),
            "images_per_second": self.steps_an_epoch * self.recipe.run.batch / seconds,
            "input_wait": waited / seconds,
        }

    def _step(self, parts: list[dict[str, Any]], counts: Counts) -> float:
        """One step of the optimiser, on this process's part of a batch, in pieces; gives the loss of the batch."""
        recipe, world = self.recipe, self.fabric.world_size
        steps = recipe.run.epochs * self.steps_an_epoch
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.optimiser.lr * factor(recipe.schedule, self.progress.step, steps, self.steps_an_epoch)
        # A piece counts by its labelled pixels, so that the gradient is that of the whole batch in one piece.
        labelled = torch.stack([(part["mask"] != self.data.ignored).sum().float() for part in parts])
        shares = labelled * world / self._over_all(labelled.sum()).clamp(min=1)
        loss = torch.zeros((), device=self.fabric.device)
        for number, (part, share) in enumerate(zip(parts, shares, strict=True), 1):
            with self.fabric.no_backward_sync(self.network, enabled=number < len(parts)):
                logits, second = self.network(self.model.normalise(part["image"]), auxiliary=True)
                weights = part.get("weights")
                value = self.criterion.with_auxiliary(logits, second, part["mask"], recipe.loss.auxiliary, weights)
                self.fabric.backward(value * share)
            loss += value.detach() * share / world
            counts.update(logits.detach(), part["mask"])
        # Float16's losses were scaled.
        self.fabric.strategy.precision.unscale_gradients(self.optimiser.optimizer)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        found, length = torch.stack([self._over_all(loss), norm]).tolist()
        self.progress.step += 1
        # The scale of float16 is found by trying: steps that are too long are left out.
        if not math.isfinite(found) or (not math.isfinite(length) and recipe.hardware.precision != "fp16"):
            raise self._diverged(found, length, logits)
        if recipe.optimiser.clip:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), recipe.optimiser.clip, norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return float(found)

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        """The figures on the held-out images, in the run's precision; nothing where there are none."""
        loader = self.loaders.held_out
        if loader is None:
            return {}
        counts = self._counts()
        sums = torch.zeros(2, device=self.fabric.device)
        done = 0
        with self._kept() as model, evaluating(model), self.fabric.autocast():
            for samples in loader:
                for images, masks in _same_size(samples):
                    images, masks = self.fabric.to_device((images, masks))
                    logits = model(model.normalise(images)).float()
                    counts.update(logits, masks)
                    labelled = (masks != self.data.ignored).sum()
                    sums += torch.stack([self.criterion(logits, masks) * labelled, labelled])
                done += len(samples)
                self._tell("evaluating", done, len(loader.dataset))  # type: ignore[arg-type]
        loss, labelled = self._over_all(sums)
        return {"val_loss": float(loss / labelled.clamp(min=1)), **_figures("val", self._matrix(counts))}

    def _keep(self, epoch: int, mean_iu: float) -> None:
        """Writes what the epoch has made, the resume file last: a run killed before that makes the epoch again."""
        progress = self.progress
        progress.epoch = epoch + 1
        better = mean_iu > progress.best
        if better:
            progress.best, progress.best_epoch = mean_iu, epoch + 1
        if self.fabric.is_global_zero:
            recipe = self.recipe.to_dict()
            with self._kept() as model:
                model.with_info(recipe=recipe, trained=self._trained())
                save(model, self.folder / LAST)
                if better:
                    save(model, self.folder / BEST)
            self._tell("epoch", progress.history)
            states = {name: thing.state_dict() for name, thing in self._stateful().items()}
            checkpoint.write(self.folder, progress, recipe, states)
        self.fabric.barrier()

    def _trained(self) -> dict[str, Any]:
        """What a checkpoint says of its training."""
        cuda = self.fabric.device.type == "cuda"
        figures = {name: value for name, value in self.progress.history[-1].items() if math.isfinite(value)}
        return {
            "data": self.data.title,
            "images": len(self.data),
            "device": torch.cuda.get_device_name() if cuda else self.fabric.device.type,
            "processes": self.fabric.world_size,
            **figures,
        }

    @contextmanager
    def _kept(self) -> Iterator[SegmentationModel]:
        """The model that is evaluated and kept: the moving average, where there is one, less weights taken back."""
        model = self.model if self.average is None else cast(SegmentationModel, self.average.module)
        with unweighed(model, self.class_weights, self.recipe.loss.unweigh):
            yield model

    def _diverged(self, loss: float, norm: float | None = None, logits: Tensor | None = None) -> TrainingError:
        where = f"in step {self.progress.step} (epoch {self.progress.epoch + 1})"
        cause = cause_of(loss, norm, self.model, logits, self.recipe.hardware.precision)
        return TrainingError(
            f"The run diverged {where}: {cause} {self.folder} keeps the epochs before it, if there are any."
        )

    def _stateful(self) -> dict[str, Any]:
        things = {"model": self.model, "optimiser": self.optimiser, "precision": self.fabric.strategy.precision}
        return things if self.average is None else things | {"average": self.average}

    def _counts(self) -> Counts:
        return Counts(self.model.config.num_classes, self.data.ignored, self.fabric.device)

    def _matrix(self, counts: Counts) -> ConfusionMatrix:
        counts.table = self._over_all(counts.table)
        return counts.matrix()

    def _over_all(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        return cast(Tensor, self.fabric.all_reduce(tensor, reduce_op="sum"))

    def _seed(self, epoch: int) -> None:
        """Of what the network itself draws, such as dropout. First weights are those of the first process."""
        parts = [self.recipe.run.seed, epoch, self.fabric.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) % 2**63)

    def _tell(self, what: str, *facts: Any) -> None:
        for listener in self.listeners:
            getattr(listener, what)(*facts)


def _same_size(samples: list[dict[str, Any]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of neighbours of one size: padding to a common size would change what is predicted at the borders."""
    for _, group in itertools.groupby(samples, lambda sample: sample["mask"].shape):
        same = list(group)
        yield torch.stack([one["image"] for one in same]), torch.stack([one["mask"] for one in same])


def _figures(part: str, matrix: ConfusionMatrix) -> dict[str, float]:
    return {
        f"{part}_mean_iu": matrix.mean_iu,
        f"{part}_accuracy": matrix.pixel_accuracy,
        f"{part}_mean_accuracy": matrix.mean_accuracy,
    }
