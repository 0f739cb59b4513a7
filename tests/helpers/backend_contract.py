"""What every backend promises, as a check that can be run on any of them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from segzoo.errors import ImageError, SegzooError
from segzoo.inference.backends.base import Backend
from segzoo.inference.result import Segmentation, mask_dtype

DTYPES = {"uint8": np.uint8, "uint16": np.uint16, "float32": np.float32}


def images_for(backend: Backend, seed: int, size: tuple[int, int, int]) -> np.ndarray:
    """Noise (N, H, W, C) that a backend takes; its own sizes where it fixes them."""
    shape = [fixed or wanted for fixed, wanted in zip(backend.static_shape, size, strict=True)]
    random = np.random.default_rng(seed)
    dtype = np.dtype(DTYPES[backend.spec.input_dtype])
    values = random.random((*shape, backend.spec.in_channels))
    return values.astype(dtype) if dtype.kind == "f" else (values * np.iinfo(dtype).max).astype(dtype)


def check_backend(backend: Backend) -> None:
    """Asserts all of the contract of `segzoo.inference.backends.base`."""
    assert isinstance(backend, Backend)
    assert "mask" in backend.outputs and backend.outputs <= {"mask", "confidence", "logits", "sampled_logits"}
    outputs = sorted(backend.outputs - {"sampled_logits"})
    assert backend.device and backend.device_reason.endswith(".")
    spec = backend.spec
    planes = (spec.num_classes,) if spec.task == "multilabel" else ()
    for size in ((1, 1, 1), (2, 33, 47), (3, 32, 64)):
        images = images_for(backend, seed=sum(size), size=size)
        before = images.copy()
        given = backend.run(images, outputs)
        number, height, width, _ = images.shape
        assert np.array_equal(images, before) and given.keys() == set(outputs)
        shape = (number, *planes, height, width)
        mask = given["mask"]
        assert mask.shape == shape and mask.dtype == mask_dtype(spec.num_classes if spec.task == "multiclass" else 2)
        Segmentation(mask[0], spec.classes, spec.task)  # its values have a meaning
        if "logits" in given:
            logits = given["logits"]
            assert logits.shape == (number, spec.num_classes, height, width) and logits.dtype == np.float32
            assert np.isfinite(logits).all() and np.array_equal(mask, _mask_of(logits, spec.task))
        if "confidence" in given:
            confidence = given["confidence"]
            assert confidence.shape == shape and confidence.dtype == np.float32
            assert confidence.min() >= 0 and confidence.max() <= 1
            if "logits" in given and spec.task == "multiclass":
                exponentials = np.exp(logits - logits.max(1, keepdims=True))
                np.testing.assert_allclose(confidence, 1 / exponentials.sum(1), atol=1e-3)
        # A single output is the same, and no later call touches what an earlier one gave.
        kept = {name: values.copy() for name, values in given.items()}
        images.setflags(write=False)
        alone = backend.run(images, ["mask"])
        assert alone.keys() == {"mask"} and np.array_equal(alone["mask"], mask)
        backend.run(images_for(backend, seed=99, size=size), outputs)
        assert all(np.array_equal(values, kept[name]) for name, values in given.items())
    if "sampled_logits" in backend.outputs:
        _check_samples(backend)
    _check_threads(backend)
    _check_refusals(backend)


def _mask_of(logits: np.ndarray, task: str) -> np.ndarray:
    if task == "multiclass":
        return logits.argmax(1)
    return (logits > 0).squeeze(1) if task == "binary" else logits > 0


def _check_samples(backend: Backend) -> None:
    """Each image of a batch is sampled separately, and sampling does not change the masks of later runs."""
    images = np.repeat(images_for(backend, seed=0, size=(1, 33, 47)), 3, axis=0)
    before = backend.run(images, ["mask"])["mask"]
    given = backend.run(images, ["sampled_logits"])
    sampled = given["sampled_logits"]
    assert given.keys() == {"sampled_logits"} and sampled.dtype == np.float32 and np.isfinite(sampled).all()
    assert sampled.shape == (3, backend.spec.num_classes, 33, 47)
    again = backend.run(images, ["sampled_logits"])["sampled_logits"]
    runs = [*sampled, *again]
    assert not any(np.array_equal(one, other) for i, one in enumerate(runs) for other in runs[:i])
    assert np.array_equal(backend.run(images, ["mask"])["mask"], before)


def _check_threads(backend: Backend) -> None:
    batches = [images_for(backend, seed, (1, 20 + seed, 24)) for seed in range(8)]
    alone = [backend.run(batch, ["mask"])["mask"] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: backend.run(batch, ["mask"])["mask"], batches * 3))
    assert all(map(np.array_equal, together, alone * 3))


def _check_refusals(backend: Backend) -> None:
    images: Any = images_for(backend, seed=0, size=(1, 8, 8))
    wrong: list[Callable[[], Any]] = [
        lambda: backend.run(images[0], ["mask"]),
        lambda: backend.run(images[..., :0], ["mask"]),
        lambda: backend.run(images.astype(np.int64), ["mask"]),
        lambda: backend.run(images[:0], ["mask"]),
    ]
    for call in wrong:
        with pytest.raises(ImageError):
            call()
    with pytest.raises(SegzooError):
        backend.run(images, ["depth"])  # type: ignore[list-item]
