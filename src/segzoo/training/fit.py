"""The training loop, from top to bottom: a run, an epoch, a step.

    train(read_recipe("recipe.toml"), "runs/first")

A run's folder contains last.safetensors and best.safetensors (for `segzoo.load`; the moving average of the weights, if
the recipe enables it), resume.pt, and the logs. The random numbers of an epoch depend only on the seed, the epoch and
the process, so a killed run resumes after its last complete epoch with exactly the steps it would have made.
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
from segzoo.models.save import save
from segzoo.training import build, checkpoint, engine
from segzoo.training.build_loss import build_loss, compute_class_weights
from segzoo.training.callbacks import Callback, logs
from segzoo.training.confusion_meter import ConfusionMeter
from segzoo.training.divergence import explain_divergence
from segzoo.training.ema import build_ema
from segzoo.training.logit_adjustment import adjusted_logits
from segzoo.training.recipe import Recipe
from segzoo.training.run_folder import RESUME, check_free
from segzoo.training.schedule import lr_factor

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LAST, BEST = "last.safetensors", "best.safetensors"


def train(
    recipe: Recipe,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Trains a model with a recipe.

    With several devices, it starts the other processes itself; each runs the calling program from its beginning.

    Args:
        folder: the folder for the run's files; created if necessary.
        resume: resume the run in the folder, or start a new one if there is none.
        callbacks: called in addition to the logs that every run writes.

    Returns:
        the checkpoint of the last epoch, last.safetensors; best.safetensors is in the same folder.

    Raises:
        TrainingError: the folder contains a run and `resume` is False, or a run with another recipe; the run diverged.
        DataError, DeviceError, OptionError, UnknownNameError: data, hardware or a value in the recipe is unavailable or
            invalid.
    """
    return Run(recipe, Path(folder), resume, callbacks).fit()


class Run:
    """One process of a run: its model, data and state, and the loop over them."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, callbacks: Sequence[Callback]) -> None:
        self.recipe, self.folder = recipe, folder
        check_free(folder, resume)
        data, held_out = build.open_datasets(recipe)
        self.steps_per_epoch = len(data) // recipe.run.batch_size
        self.fabric: Fabric = engine.launch(recipe.hardware)
        self.callbacks = [*logs(folder), *callbacks] if self.fabric.is_global_zero else []
        self._seed(0)
        self.model = build.build_model(recipe.model, data.classes)
        if recipe.hardware.channels_last:
            self.model.to(memory_format=torch.channels_last)
        if recipe.hardware.sync_batchnorm:
            if self.fabric.device.type != "cuda":
                raise OptionError("hardware.sync_batchnorm needs GPUs. On the CPU, use run.freeze_batchnorm instead.")
            nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]
        self.class_weights = compute_class_weights(recipe.loss, data)
        self.criterion = build_loss(recipe.loss, data.ignore_index, self.class_weights).to(self.fabric.device)
        self.network, self.optimizer = self.fabric.setup(
            self.model, build.build_optimizer(recipe.optimizer, self.model)
        )
        self.ema = build_ema(self.model, recipe.run.ema) if recipe.run.ema else None
        with self._evaluated_model():  # rejects a model without logit adjustment before it is trained
            pass
        self.data = data
        self.loaders = build.build_loaders(recipe, data, held_out, self.fabric.global_rank, self.fabric.world_size)
        self.progress = checkpoint.Progress()
        if resume and (folder / RESUME).exists():
            self.progress, states = checkpoint.read(folder, recipe)
            for name, stateful in self._stateful().items():
                stateful.load_state_dict(states[name])
        folder.mkdir(parents=True, exist_ok=True)

    def fit(self) -> Path:
        """Runs the remaining epochs and returns the path of the last checkpoint."""
        run, progress = self.recipe.run, self.progress
        self._notify("on_fit_start", progress.epoch, run.epochs, self.steps_per_epoch, progress.history)
        reason = f"All {run.epochs} epochs are done."
        try:
            for epoch in range(progress.epoch, run.epochs):
                if run.patience and epoch - progress.best_epoch >= run.patience:
                    reason = f"Stopped after epoch {epoch}: no improvement since epoch {progress.best_epoch}."
                    break
                start = time.perf_counter()
                row = {"epoch": epoch + 1, **self._train_epoch(epoch)}
                if (epoch + 1) % run.evaluate_every == 0 or epoch + 1 == run.epochs:
                    row |= self._evaluate()
                progress.seconds += time.perf_counter() - start
                progress.history.append(row | {"seconds": progress.seconds})
                self._save(epoch, row.get("val_mean_iou", math.nan))
        except BaseException as error:
            reason = f"Stopped by {type(error).__name__}."
            raise
        finally:
            self._notify("on_fit_end", reason)
        return self.folder / LAST

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self._seed(epoch)
        self.loaders.set_epoch(epoch)
        self.model.train()
        if self.recipe.run.freeze_batchnorm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        meter = self._new_meter()
        batches = iter(self.loaders.training)
        total_loss = input_wait = 0.0
        start = time.perf_counter()
        for _ in range(self.steps_per_epoch):
            before = time.perf_counter()
            parts = [next(batches) for _ in range(self.recipe.run.grad_accum_steps)]
            input_wait += time.perf_counter() - before
            loss = self._step([self.fabric.to_device(part) for part in parts], meter)
            total_loss += loss
            self._notify("on_step_end", self.progress.step, loss)
        if not all(tensor.isfinite().all() for tensor in self.model.state_dict().values()):
            raise self._divergence_error(loss)  # before anything is saved
        seconds = time.perf_counter() - start
        return {
            "step": self.progress.step,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": total_loss / self.steps_per_epoch,
            **_metrics("train", self._reduce(meter)),
            "images_per_second": self.steps_per_epoch * self.recipe.run.batch_size / seconds,
            "input_wait": input_wait / seconds,
        }

    def _step(self, parts: list[dict[str, Any]], meter: ConfusionMeter) -> float:
        """One optimizer step on this process's share of a batch, split into parts. Returns the loss of the batch."""
        recipe, world_size = self.recipe, self.fabric.world_size
        total_steps = recipe.run.epochs * self.steps_per_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.optimizer.lr * lr_factor(
                recipe.schedule, self.progress.step, total_steps, self.steps_per_epoch
            )
        # Each part is weighted by its labeled pixels, so that the gradient equals that of the undivided batch.
        labeled = torch.stack([(part["mask"] != self.data.ignore_index).sum().float() for part in parts])
        weights = labeled * world_size / self._sum_over_processes(labeled.sum()).clamp(min=1)
        loss = torch.zeros((), device=self.fabric.device)
        for number, (part, weight) in enumerate(zip(parts, weights, strict=True), 1):
            with self.fabric.no_backward_sync(self.network, enabled=number < len(parts)):
                logits, auxiliary = self.network(self.model.normalize(part["image"]), auxiliary=True)
                part_loss = self.criterion.with_auxiliary(
                    logits, auxiliary, part["mask"], recipe.loss.auxiliary, part.get("weights")
                )
                self.fabric.backward(part_loss * weight)
            loss += part_loss.detach() * weight / world_size
            meter.update(logits.detach(), part["mask"])
        # With float16, the loss was scaled.
        self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        loss_value, norm_value = torch.stack([self._sum_over_processes(loss), norm]).tolist()
        self.progress.step += 1
        # Float16's loss scaler skips steps with infinite gradients and lowers the scale.
        if not math.isfinite(loss_value) or (not math.isfinite(norm_value) and recipe.hardware.precision != "fp16"):
            raise self._divergence_error(loss_value, norm_value, logits)
        if recipe.optimizer.clip_grad_norm:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), recipe.optimizer.clip_grad_norm, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return float(loss_value)

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        """The metrics on the held-out images, in the run's precision; empty if there are none."""
        loader = self.loaders.held_out
        if loader is None:
            return {}
        meter = self._new_meter()
        sums = torch.zeros(2, device=self.fabric.device)
        done = 0
        with self._evaluated_model() as model, evaluating(model), self.fabric.autocast():
            for samples in loader:
                for images, masks in _batches_of_same_size(samples):
                    images, masks = self.fabric.to_device((images, masks))
                    logits = model(model.normalize(images)).float()
                    meter.update(logits, masks)
                    labeled = (masks != self.data.ignore_index).sum()
                    sums += torch.stack([self.criterion(logits, masks) * labeled, labeled])
                done += len(samples)
                self._notify("on_validation_batch_end", done, len(loader.dataset))  # type: ignore[arg-type]
        loss, labeled = self._sum_over_processes(sums)
        return {"val_loss": float(loss / labeled.clamp(min=1)), **_metrics("val", self._reduce(meter))}

    def _save(self, epoch: int, mean_iou: float) -> None:
        """Writes the results of an epoch, the resume file last: a run killed before that repeats the epoch."""
        progress = self.progress
        progress.epoch = epoch + 1
        is_best = mean_iou > progress.best
        if is_best:
            progress.best, progress.best_epoch = mean_iou, epoch + 1
        if self.fabric.is_global_zero:
            recipe = self.recipe.to_dict()
            with self._evaluated_model() as model:
                model.with_info(recipe=recipe, trained=self._training_info())
                save(model, self.folder / LAST)
                if is_best:
                    save(model, self.folder / BEST)
            self._notify("on_epoch_end", progress.history)
            states = {name: stateful.state_dict() for name, stateful in self._stateful().items()}
            checkpoint.write(self.folder, progress, recipe, states)
        self.fabric.barrier()

    def _training_info(self) -> dict[str, Any]:
        """What a checkpoint records about its training."""
        is_cuda = self.fabric.device.type == "cuda"
        metrics = {name: value for name, value in self.progress.history[-1].items() if math.isfinite(value)}
        return {
            "data": self.data.title,
            "images": len(self.data),
            "device": torch.cuda.get_device_name() if is_cuda else self.fabric.device.type,
            "processes": self.fabric.world_size,
            **metrics,
        }

    @contextmanager
    def _evaluated_model(self) -> Iterator[SegmentationModel]:
        """The model to evaluate and save: the moving average if enabled, with logit adjustment applied."""
        model = self.model if self.ema is None else cast(SegmentationModel, self.ema.module)
        with adjusted_logits(model, self.class_weights, self.recipe.loss.logit_adjustment):
            yield model

    def _divergence_error(self, loss: float, norm: float | None = None, logits: Tensor | None = None) -> TrainingError:
        position = f"in step {self.progress.step} (epoch {self.progress.epoch + 1})"
        cause = explain_divergence(loss, norm, self.model, logits, self.recipe.hardware.precision)
        return TrainingError(f"The run diverged {position}: {cause} Earlier epochs, if any, are in {self.folder}.")

    def _stateful(self) -> dict[str, Any]:
        stateful = {"model": self.model, "optimizer": self.optimizer, "precision": self.fabric.strategy.precision}
        return stateful if self.ema is None else stateful | {"ema": self.ema}

    def _new_meter(self) -> ConfusionMeter:
        return ConfusionMeter(self.model.spec.num_classes, self.data.ignore_index, self.fabric.device)

    def _reduce(self, meter: ConfusionMeter) -> ConfusionMatrix:
        meter.counts = self._sum_over_processes(meter.counts)
        return meter.matrix()

    def _sum_over_processes(self, tensor: Tensor) -> Tensor:
        return cast(Tensor, self.fabric.all_reduce(tensor, reduce_op="sum"))

    def _seed(self, epoch: int) -> None:
        """Seeds the network's own random numbers, such as dropout. Initial weights come from the first process."""
        entropy = [self.recipe.run.seed, epoch, self.fabric.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) % 2**63)

    def _notify(self, method: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, method)(*args)


def _batches_of_same_size(samples: list[dict[str, Any]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of consecutive samples of the same size; padding to a common size would change predictions at borders."""
    for _, group in itertools.groupby(samples, lambda sample: sample["mask"].shape):
        same = list(group)
        yield torch.stack([sample["image"] for sample in same]), torch.stack([sample["mask"] for sample in same])


def _metrics(part: str, matrix: ConfusionMatrix) -> dict[str, float]:
    return {
        f"{part}_mean_iou": matrix.mean_iou,
        f"{part}_accuracy": matrix.pixel_accuracy,
        f"{part}_mean_accuracy": matrix.mean_accuracy,
    }
