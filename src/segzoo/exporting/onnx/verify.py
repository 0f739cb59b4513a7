"""Verification that an .onnx file computes what the model computes, at sizes that were not traced."""

import copy
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from segzoo.errors import ExportError
from segzoo.exporting.onnx.graph import size_unit
from segzoo.inference.backends.onnxruntime import ort
from segzoo.models.base import SegmentationModel
from segzoo.models.layers.unpooling import Unpool
from segzoo.spec import ExportSpec

MAX_DIFFERENCE = 1e-4
"""Largest difference of logits allowed in float32, relative to the largest logit of the batch."""

MIN_AGREEMENT, MIN_AGREEMENT_HALF = 0.9999, 0.995
"""Smallest share of pixels with the same class over all images, in float32 and in float16 (which ignores logits)."""

UNPOOLING_AGREEMENT, UNPOOLING_CLOSE, UNPOOLING_ATTEMPTS = 0.99, 0.95, 4
"""For networks that unpool, over all images: the smallest share of pixels with the same class, and of pixels whose
logits are all within `MAX_DIFFERENCE`; and the number of images to try at each size, of which the best counts.

If values of a 2x2 window differ by no more than rounding, torch and onnxruntime can choose different pooling indices,
which moves a value by one pixel: a few pixels change near full resolution, a whole region at 1/16 of it. That depends
on the image, and flat images are the worst. A wrong graph is wrong everywhere, on every image.
"""

UNPOOLING_AGREEMENT_HALF = 0.95
"""The same share of pixels in float16, whose rounding changes some pooling indices on every image."""

UNPOOLING_MIN_CLOSE = 0.8
"""Smallest share of close pixels in any single case of a thousand pixels or more, so that no size can fail alone."""

PATTERNS = ("noise", "scene")
"""The images that are drawn at each size."""


@dataclass(frozen=True)
class Case:
    """One comparison, on one batch of images."""

    batch: int
    height: int
    width: int
    pattern: str
    """One of `PATTERNS`."""
    logits_difference: float
    """max |onnxruntime - torch| / max |torch|."""
    fraction_close: float
    """Share of pixels whose logits all differ by no more than `MAX_DIFFERENCE`."""
    pixel_agreement: float
    """Share of pixels with the same class."""
    float64_agreement: float = 1.0
    """Share of pixels where torch in float32 is as close to torch in float64; measured only if pooling indices changed.
    It shows what rounding alone does."""
    images: int = 1
    """Number of batches that were tried; more than one only if a network that unpools was not close on the first."""

    @property
    def size(self) -> tuple[int, int, int]:
        return self.batch, self.height, self.width

    @property
    def pixels(self) -> int:
        return math.prod(self.size)


@dataclass(frozen=True)
class Verification:
    """All comparisons of a graph with its model."""

    cases: tuple[Case, ...]
    unpooling: bool
    """True for networks that unpool: rounding may change their pooling indices."""

    half: bool = False
    """Whether the graph computes in float16."""

    @property
    def logits_difference(self) -> float:
        """The largest of all cases; NaN if any is NaN."""
        return float(np.max([case.logits_difference for case in self.cases]))

    @property
    def pixel_agreement(self) -> float:
        """Share of pixels with the same class, over all pixels of all conclusive cases."""
        return self._share("pixel_agreement")

    @property
    def fraction_close(self) -> float:
        """Share of pixels whose logits are all within `MAX_DIFFERENCE`, over all pixels of all conclusive cases."""
        return self._share("fraction_close")

    def _share(self, field: Literal["fraction_close", "pixel_agreement"]) -> float:
        pixels = sum(case.pixels for case in self.conclusive)
        return sum(getattr(case, field) * case.pixels for case in self.conclusive) / pixels if pixels else math.nan

    def accepts(self, case: Case) -> bool:
        """Whether one case is good enough on its own. False for NaN."""
        if not self.unpooling:
            # For float16 this refuses only NaN and gross errors; its masks are judged over all cases.
            return case.logits_difference <= (1.0 if self.half else MAX_DIFFERENCE)
        if case.pixels < 1000:
            return math.isfinite(case.logits_difference)
        return (case.pixel_agreement if self.half else case.fraction_close) >= UNPOOLING_MIN_CLOSE

    @property
    def min_agreement(self) -> float:
        """The smallest `pixel_agreement` that passes."""
        if self.unpooling:
            return UNPOOLING_AGREEMENT_HALF if self.half else UNPOOLING_AGREEMENT
        return MIN_AGREEMENT_HALF if self.half else MIN_AGREEMENT

    @property
    def passed(self) -> bool:
        """Whether every conclusive case is good enough, every size has one, and all their pixels together are too."""
        if not all(map(self.accepts, self.conclusive)):
            return False
        if {case.size for case in self.conclusive} < {case.size for case in self.cases}:
            return False
        if self.unpooling and not self.half and not self.fraction_close >= UNPOOLING_CLOSE:  # NaN fails too
            return False
        return self.pixel_agreement >= self.min_agreement

    @property
    def conclusive(self) -> tuple[Case, ...]:
        """Cases that distinguish a correct graph from a wrong one: torch in float32 is close to torch in float64.

        Otherwise (a flat image, a network that amplifies its rounding) no two libraries agree.
        """
        return tuple(case for case in self.cases if case.float64_agreement >= UNPOOLING_MIN_CLOSE)

    def to_dict(self) -> dict[str, Any]:
        return {
            "unpooling": self.unpooling,
            "half": self.half,
            "logits_difference": self.logits_difference,
            "pixel_agreement": self.pixel_agreement,
            "cases": [asdict(case) for case in self.cases],
        }


def verify(
    model: SegmentationModel, path: str | os.PathLike[str], spec: ExportSpec, progress: Callable[[str], None]
) -> Verification:
    """Runs model and file on the same images: four sizes other than the traced one, one of them in a batch of three.

    A file with a static shape is verified at that shape, on as many images.

    Raises:
        ExportError: they differ by more than is allowed, or onnxruntime cannot run the file; the message says at which
            size.
    """
    session = open_session(path)
    verification = Verification((), any(isinstance(module, Unpool) for module in model.modules()), spec.half)
    attempts = UNPOOLING_ATTEMPTS if verification.unpooling else 1
    inputs = [(size, pattern) for size in _sizes(size_unit(model), spec.static_shape) for pattern in PATTERNS]
    in_float64: SegmentationModel | None = None  # made only if needed: it takes twice the memory
    for number, (size, pattern) in enumerate(inputs, 1):
        compared: list[tuple[Case, Tensor]] = []
        for attempt in range(1, attempts + 1):
            progress(f"verifying {number}/{len(inputs)}: {size[0]} x {size[1]} x {size[2]}, {pattern}")
            images = _images(size, model.spec.in_channels, pattern, seed=10 * number + attempt)
            compared.append((_compare(model, session, images, spec, pattern), images))
            if compared[-1][0].logits_difference <= MAX_DIFFERENCE:
                break
        best, images = max(
            compared, key=lambda pair: (0.0 if spec.half else pair[0].fraction_close, pair[0].pixel_agreement)
        )
        if verification.unpooling and not spec.half and MAX_DIFFERENCE < best.logits_difference < math.inf:
            in_float64 = in_float64 or copy.deepcopy(model).double()
            best = replace(best, float64_agreement=_float64_agreement(model, in_float64, images))
        verification = replace(verification, cases=(*verification.cases, replace(best, images=len(compared))))
    if not verification.passed:
        worst = max(verification.cases, key=lambda case: (not verification.accepts(case), case.logits_difference))
        raise ExportError(
            f"onnxruntime and torch disagree: logits by {verification.logits_difference:.2g} of the largest, the same "
            f"class on {verification.pixel_agreement:.4%} of pixels; worst at {' x '.join(map(str, worst.size))} "
            f"({worst.pattern}). No file was written. Possible causes are weights that are NaN or overflow, and "
            "operators that onnxruntime computes differently."
        )
    return verification


def open_session(path: str | os.PathLike[str], optimized: bool = True) -> ort.InferenceSession:
    """A session on the CPU, so that the result does not depend on the machine. It logs nothing; errors are raised.

    Args:
        optimized: False computes each node as the graph has it.

    Raises:
        ExportError: onnxruntime refuses the graph.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ExportError(f"onnxruntime refuses the graph: {error}. No file was written.") from error


def _sizes(unit: int, static_shape: tuple[int, int, int] | None) -> tuple[tuple[int, int, int], ...]:
    """(batch, height, width): one pixel, odd, exact multiples in a batch, and larger than the traced size."""
    return (
        (static_shape,) * 4
        if static_shape
        else ((1, 1, 1), (1, unit + 1, unit + 15), (3, unit, 2 * unit), (1, 3 * unit + 4, 4 * unit + 5))
    )


def _images(size: tuple[int, int, int], channels: int, pattern: str, seed: int) -> Tensor:
    """uint8 (N, H, W, C): noise, which excites every channel, or discs on a gradient, which resemble a photograph."""
    batch, height, width = size
    random = np.random.default_rng((seed, height, width))
    shape = (*size, channels)
    if pattern == "noise":
        return torch.from_numpy(random.integers(0, 256, shape, dtype=np.uint8))
    y, x = np.mgrid[0:height, 0:width]
    images = np.empty(shape)
    for n in range(batch):
        for c in range(channels):
            a, b = random.uniform(-1, 1, 2)
            images[n, :, :, c] = 128 + 90 * (a * y / height + b * x / width)
        for _ in range(6):
            cy, cx, radius = (
                random.uniform(0, height),
                random.uniform(0, width),
                random.uniform(0, (height + width) / 8),
            )
            images[n, (y - cy) ** 2 + (x - cx) ** 2 < radius**2] = random.uniform(0, 255, channels)
    return torch.from_numpy(images.clip(0, 255).astype(np.uint8))


def _compare(
    model: SegmentationModel, session: ort.InferenceSession, images: Tensor, spec: ExportSpec, pattern: str
) -> Case:
    with torch.inference_mode():
        mask, logits = model.classify(images)
        feed = images if spec.input == "image" else model.normalize(images)
    try:
        outputs = session.run(None, {"image": feed.numpy()})
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ExportError(
            f"onnxruntime cannot run the graph at {' x '.join(map(str, images.shape[:3]))}: {error}. "
            "No file was written."
        ) from error
    actual, expected = outputs[-1], logits.numpy()
    actual_mask = outputs[0] if spec.input == "image" else actual.argmax(1)
    if actual.shape != expected.shape:
        raise ExportError(
            f"onnxruntime returns logits of shape {actual.shape}, torch {expected.shape}. No file was written."
        )
    difference = np.abs(actual - expected).max(axis=1) / max(float(np.abs(expected).max()), 1e-12)
    batch, height, width = images.shape[:3]
    return Case(
        batch,
        height,
        width,
        pattern,
        logits_difference=float(difference.max()),
        fraction_close=float((difference <= MAX_DIFFERENCE).mean()),
        pixel_agreement=float((actual_mask == mask.numpy()).mean()),
    )


def _float64_agreement(model: SegmentationModel, in_float64: SegmentationModel, images: Tensor) -> float:
    """Share of pixels where float32 is within `MAX_DIFFERENCE` of float64, both in torch."""
    with torch.inference_mode():
        normalized = model.normalize(images)
        logits, exact = model(normalized), in_float64(normalized.double())
    difference = (exact - logits).abs().amax(1) / exact.abs().max().clamp(min=1e-12)
    return float((difference <= MAX_DIFFERENCE).double().mean())
