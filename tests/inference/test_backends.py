"""The contract of a backend, kept by one in plain numpy for each task, and broken one promise at a time."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from backend_contract import check_backend
from channels_backend import Channels, backend

import segzoo
from segzoo.errors import OptionError


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


class Samples(Channels):
    """Gives random logits: one draw for each image, or one for the batch."""

    outputs: frozenset[str] = frozenset({"mask", "confidence", "logits", "sampled_logits"})
    per_image = True

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> dict[str, Any]:
        if list(outputs) != ["sampled_logits"]:
            return super().run(images, outputs)
        logits = super().run(images, ["logits"])["logits"]
        noise = np.random.default_rng().random((len(logits) if self.per_image else 1, 1, 1, 1), np.float32)
        return {"sampled_logits": logits + noise}


class SamplesOnce(Samples):
    per_image = False


def test_samples_are_part_of_the_contract() -> None:
    check_backend(Samples(backend().spec, outputs=Samples.outputs))


@pytest.mark.parametrize("broken", [Reuses, TakesAnything, Shifts, Writes, SamplesOnce])
def test_the_check_can_fail(broken: type[Channels]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_backend(broken(backend().spec, outputs=broken.outputs))


@pytest.mark.parametrize(
    "change", [{"outputs": frozenset({"logits"})}, {"device": ""}, {"outputs": frozenset({"mask", "depth"})}]
)
def test_what_a_backend_says_of_itself_is_checked(change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        check_backend(dataclasses.replace(backend(), **change))


def test_a_page_is_only_for_models_that_take_files() -> None:
    image = np.zeros((4, 5, 3), np.uint16)
    predictor = segzoo.Predictor(backend(input_dtype="uint16"))
    assert predictor.predict(image).size == (4, 5)
    with pytest.raises(OptionError, match=r"page= is for files, and Channels takes uint16 arrays\. Omit page="):
        predictor.predict(image, page=1)
