"""The contract of a backend, kept by one in plain numpy for each task, and broken one promise at a time."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from backend_contract import DTYPES, check_backend

from segzoo.classes import ClassSet
from segzoo.errors import ImageError, SegzooError
from segzoo.inference.result import mask_dtype
from segzoo.spec import ModelSpec


@dataclasses.dataclass
class Channels:
    """Each channel of the image is the logit of one class, less the middle of its range. Needs no engine."""

    spec: ModelSpec
    static_shape: tuple[int | None, int | None, int | None] = (None, None, None)
    outputs: frozenset[str] = frozenset({"mask", "confidence", "logits"})
    device: str = "cpu"
    device_reason: str = "Running on the CPU, because numpy does."

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> dict[str, Any]:
        dtype = np.dtype(DTYPES[self.spec.input_dtype])
        if images.ndim != 4 or images.shape[3] != self.spec.in_channels or images.dtype != dtype or not images.size:
            raise ImageError(f"Images are {dtype} (N, H, W, {self.spec.in_channels}).")
        if not self.outputs.issuperset(outputs):
            raise SegzooError(f"There are {', '.join(self.outputs)}.")
        top = 1 if dtype.kind == "f" else np.iinfo(dtype).max
        logits = np.moveaxis(images.astype(np.float32) / np.float32(top) - np.float32(0.5), 3, 1).copy()
        if self.spec.task == "multiclass":
            each = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            mask, confidence = logits.argmax(1).astype(mask_dtype(len(self.spec.classes))), each.max(1)
        else:
            each = 1 / (1 + np.exp(-logits))
            mask, confidence = (logits > 0).astype(np.uint8), np.maximum(each, 1 - each)
            if self.spec.task == "binary":
                mask, confidence = mask[:, 0], confidence[:, 0]
        every = {"mask": mask, "confidence": confidence.astype(np.float32), "logits": logits}
        return {name: every[name] for name in outputs}


def backend(task: str = "multiclass", input_dtype: str = "uint8") -> Channels:
    classes = ClassSet.generic(2 if task == "binary" else 3)
    spec = ModelSpec("channels", None, classes, task=task, input_dtype=input_dtype)  # type: ignore[arg-type]
    return Channels(spec.replace(in_channels=spec.num_classes))


@pytest.mark.parametrize("input_dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_a_backend_keeps_the_contract(task: str, input_dtype: str) -> None:
    check_backend(backend(task, input_dtype))


def test_a_static_shape_is_part_of_it() -> None:
    check_backend(dataclasses.replace(backend(), static_shape=(2, 16, 24)))


class Reuses(Channels):
    """Gives the same memory again."""

    memory: np.ndarray | None = None

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> dict[str, Any]:
        given = super().run(images, outputs)
        if self.memory is None or self.memory.shape != given["mask"].shape:
            self.memory = np.empty_like(given["mask"])
        self.memory[:] = given["mask"]
        return given | {"mask": self.memory}


class TakesAnything(Channels):
    """Refuses no image."""

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> dict[str, Any]:
        fits = images.ndim == 4 and images.size and images.dtype == np.uint8
        return super().run(images if fits else np.zeros((1, 1, 1, 3), np.uint8), outputs)


class Shifts(Channels):
    """A mask that is not the logits' argmax."""

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> dict[str, Any]:
        given = super().run(images, outputs)
        return given | {"mask": (given["mask"] + 1) % 3}


class Writes(Channels):
    """Changes the images."""

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> dict[str, Any]:
        given = super().run(images, outputs)
        images[:] = 0
        return given


@pytest.mark.parametrize("broken", [Reuses, TakesAnything, Shifts, Writes])
def test_the_check_can_fail(broken: type[Channels]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_backend(broken(backend().spec))


@pytest.mark.parametrize(
    "change", [{"outputs": frozenset({"logits"})}, {"device": ""}, {"outputs": frozenset({"mask", "depth"})}]
)
def test_what_a_backend_says_of_itself_is_checked(change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check_backend(dataclasses.replace(backend(), **change))
