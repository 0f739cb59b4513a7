"""The training loop, from top to bottom: a run, an epoch, a step.

    train(read_recipe("recipe.toml"), "runs/first")

A recipe is turned into objects first (`build.Parts`), and the loop works on objects only; `segzoo.train` passes its
caller's own.

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
from segzoo.training.callbacks import Callback, logs
from segzoo.training.confusion_meter import ConfusionMeter
from segzoo.training.divergence import explain_divergence
from segzoo.training.ema import build_ema
from segzoo.training.logit_adjustment import adjusted_logits
from segzoo.training.recipe import Recipe
from segzoo.training.run_folder import RESUME, check_free

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
    folder = Path(folder)
    start(recipe, folder, resume, callbacks).fit()
    return folder / LAST


def start(recipe: Recipe, folder: Path, resume: bool, callbacks: Sequence[Callback]) -> "Run":
    """A run by a recipe, ready to `fit`."""
    check_free(folder, resume)
    data, held_out = build.open_datasets(recipe)
    fabric = engine.launch(recipe.hardware)
    seed_process(recipe.run.seed, 0, fabric)
    return Run(build.build_parts(recipe, data, held_out), fabric, folder, resume, [*logs(folder), *callbacks])


def seed_process(seed: int, epoch: int, fabric: "Fabric") -> None:
    """Seeds the network's own random numbers, such as dropout. Initial weights come from the first process."""
    entropy = [seed, epoch, fabric.global_rank]
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) % 2**63)


class Run:
    """One process of a run: its parts and state, and the loop over them.

    Args:
        folder: for the run's files; None writes none.
        callbacks: those of the first process.
    """

    def __init__(
        self, parts: build.Parts, fabric: "Fabric", folder: Path | None, resume: bool, callbacks: Sequence[Callback]
    ) -> None:
        self.parts, self.settings, self.data = parts, parts.settings, parts.data
        self.model, self.class_weights = parts.model, parts.class_weights
        self.fabric, self.folder = fabric, folder
        self.callbacks = list(callbacks) if fabric.is_global_zero else []
        self.steps_per_epoch = len(parts.data) // self.settings.run.batch_size
        if self.settings.hardware.channels_last:
            self.model.to(memory_format=torch.channels_last)
        if self.settings.hardware.sync_batchnorm:
            if fabric.device.type != "cuda":
                raise OptionError("hardware.sync_batchnorm needs GPUs. On the CPU, use run.freeze_batchnorm instead.")
            nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]
        self.criterion = parts.loss.to(fabric.device)
        self.lrs = [group["lr"] for group in parts.optimizer.param_groups]
        optimized = {id(p) for group in parts.optimizer.param_groups for p in group["params"]}
        self.parameters = [p for p in self.model.parameters() if id(p) in optimized]
        self.network, self.optimizer = fabric.setup(self.model, parts.optimizer)
        self.ema = build_ema(self.model, self.settings.run.ema) if self.settings.run.ema else None
        with self.evaluated_model():  # rejects a model without logit adjustment before it is trained
            pass
        self.loaders = build.build_loaders(parts, fabric.global_rank, fabric.world_size)
        self.progress = checkpoint.Progress()
        if folder is None:
            return
        if resume and (folder / RESUME).exists():
            self.progress, states = checkpoint.read(folder, parts)
            for name, stateful in self._stateful().items():
                try:
                    stateful.load_state_dict(states[name])
                except (KeyError, RuntimeError, ValueError) as error:
                    raise TrainingError(
                        f"The run in {folder} had another {name}, whose state does not fit ({error}). Pass the same "
                        "objects, or start a new run in another folder."
                    ) from error
        folder.mkdir(parents=True, exist_ok=True)

    def fit(self) -> str:
        """Runs the remaining epochs and returns why training ended, as a sentence."""
        run, progress = self.settings.run, self.progress
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
                self._complete(epoch, row.get("val_mean_iou", math.nan))
        except BaseException as error:
            reason = f"Stopped by {type(error).__name__}."
            raise
        finally:
            for group, lr in zip(self.optimizer.param_groups, self.lrs, strict=True):
                group["lr"] = lr  # as before the schedule, for the optimizer's owner
            self._notify("on_fit_end", reason)
        return reason

    def finish(self) -> None:
        """Gives the trained model the weights and the info of the model that was evaluated last."""
        with self.evaluated_model() as model:
            if self.progress.history:
                model.with_info(**self.parts.info(), trained=self._training_info())
            spec, state = model.spec, {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.model.load_state_dict(state)
        self.model.spec = spec

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        seed_process(self.settings.run.seed, epoch, self.fabric)
        self.loaders.set_epoch(epoch)
        self.model.train()
        if self.settings.run.freeze_batchnorm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        meter = self._new_meter()
        batches = iter(self.loaders.training)
        total_loss = input_wait = 0.0
        start = time.perf_counter()
        for _ in range(self.steps_per_epoch):
            before = time.perf_counter()
            parts = [next(batches) for _ in range(self.settings.run.grad_accum_steps)]
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
            "images_per_second": self.steps_per_epoch * self.settings.run.batch_size / seconds,
            "input_wait": input_wait / seconds,
        }

    def _step(self, parts: list[dict[str, Any]], meter: ConfusionMeter) -> float:
        """One optimizer step on this process's share of a batch, split into parts. Returns the loss of the batch."""
        settings, world_size = self.settings, self.fabric.world_size
        total_steps = settings.run.epochs * self.steps_per_epoch
        factor = self.parts.schedule(self.progress.step, total_steps, self.steps_per_epoch)
        for group, lr in zip(self.optimizer.param_groups, self.lrs, strict=True):
            group["lr"] = lr * factor
        # Each part is weighted by its labeled pixels, so that the gradient equals that of the undivided batch.
        labeled = torch.stack([(part["mask"] != self.data.ignore_index).sum().float() for part in parts])
        weights = labeled * world_size / self._sum_over_processes(labeled.sum()).clamp(min=1)
        loss = torch.zeros((), device=self.fabric.device)
        for number, (part, weight) in enumerate(zip(parts, weights, strict=True), 1):
            with self.fabric.no_backward_sync(self.network, enabled=number < len(parts)):
                logits, auxiliary = self.network(self.model.normalize(part["image"]), auxiliary=True)
                part_loss = self.criterion.with_auxiliary(
                    logits, auxiliary, part["mask"], settings.loss.auxiliary, part.get("weights")
                )
                self.fabric.backward(part_loss * weight)
            loss += part_loss.detach() * weight / world_size
            meter.update(logits.detach(), part["mask"])
        # With float16, the loss was scaled.
        self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        loss_value, norm_value = torch.stack([self._sum_over_processes(loss), norm]).tolist()
        self.progress.step += 1
        # Float16's loss scaler skips steps with infinite gradients and lowers the scale.
        if not math.isfinite(loss_value) or (not math.isfinite(norm_value) and settings.hardware.precision != "fp16"):
            raise self._divergence_error(loss_value, norm_value, logits)
        if settings.optimizer.clip_grad_norm:
            nn.utils.clip_grads_with_norm_(self.parameters, settings.optimizer.clip_grad_norm, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.model.zero_grad()  # parameters that are not the optimizer's, too
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
        with self.evaluated_model() as model, evaluating(model), self.fabric.autocast():
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

    def _complete(self, epoch: int, mean_iou: float) -> None:
        """Records an epoch and writes its files, the resume file last: a run killed before that repeats the epoch."""
        progress = self.progress
        progress.epoch = epoch + 1
        is_best = mean_iou > progress.best
        if is_best:
            progress.best, progress.best_epoch = mean_iou, epoch + 1
        with self.evaluated_model() as model:
            model.with_info(**self.parts.info(), trained=self._training_info())
            if self.folder is not None and self.fabric.is_global_zero:
                save(model, self.folder / LAST)
                if is_best:
                    save(model, self.folder / BEST)
        self._notify("on_epoch_end", progress.history)
        if self.folder is not None and self.fabric.is_global_zero:
            states = {name: stateful.state_dict() for name, stateful in self._stateful().items()}
            checkpoint.write(self.folder, progress, self.parts, states)
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
    def evaluated_model(self) -> Iterator[SegmentationModel]:
        """The model to evaluate and save: the moving average if enabled, with logit adjustment applied."""
        model = self.model if self.ema is None else cast(SegmentationModel, self.ema.module)
        with adjusted_logits(model, self.class_weights, self.settings.loss.logit_adjustment):
            yield model

    def _divergence_error(self, loss: float, norm: float | None = None, logits: Tensor | None = None) -> TrainingError:
        position = f"in step {self.progress.step} (epoch {self.progress.epoch + 1})"
        cause = explain_divergence(loss, norm, self.model, logits, self.settings.hardware.precision)
        saved = "" if self.folder is None else f" Earlier epochs, if any, are in {self.folder}."
        return TrainingError(f"The run diverged {position}: {cause}{saved}")

    def _stateful(self) -> dict[str, Any]:
        stateful = {"model": self.model, "optimizer": self.optimizer, "precision": self.fabric.strategy.precision}
        if self.ema is not None:
            stateful["ema"] = self.ema
        if self.criterion.state_dict():  # the loss is the user's own
            stateful["loss"] = self.criterion
        return stateful

    def _new_meter(self) -> ConfusionMeter:
        return ConfusionMeter(self.model.spec.num_classes, self.data.ignore_index, self.fabric.device)

    def _reduce(self, meter: ConfusionMeter) -> ConfusionMatrix:
        meter.counts = self._sum_over_processes(meter.counts)
        return meter.matrix()

    def _sum_over_processes(self, tensor: Tensor) -> Tensor:
        return cast(Tensor, self.fabric.all_reduce(tensor, reduce_op="sum"))

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
