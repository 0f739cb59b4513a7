"""Proof that an .onnx file does what the model does: both run, side by side, on sizes that were not traced."""

import copy
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from segzoo.errors import ExportError
from segzoo.exporting.onnx.graph import Form, unit
from segzoo.models.base import SegmentationModel
from segzoo.models.layers.unpooling import Unpool

LOGITS = 1e-4
"""Largest difference of logits allowed in float32, relative to the largest logit of the image."""

LABELS = 0.9999
"""Least share of pixels with the same label in float32, over all images."""

HALF_LABELS = 0.995
"""The same in float16, which is judged on labels alone."""

UNPOOLING_LABELS, UNPOOLING_NEAR, UNPOOLING_IMAGES = 0.99, 0.95, 4
"""For networks that unpool, over all images: the least share of pixels with the same label, and of pixels whose logits
are all within `LOGITS`; and how many images may be tried at each size, of which the best counts.

Where values of a 2x2 window are equal but for rounding, torch and onnxruntime can pick different switches, and a value
lands one pixel off: near the image's size that changes a few pixels, at 1/16 of it a whole region. That is the bad luck
of one image, worst where it is flat; a wrong graph is wrong everywhere on every image.
"""

UNPOOLING_FLOOR = 0.8
"""Least share of such pixels at any one size of a thousand pixels or more, so that none can be wrong by itself."""

HALF_UNPOOLING_LABELS = 0.95
"""Least share of pixels with the same label in float16, whose rounding flips some switches on every image."""


@dataclass(frozen=True)
class Case:
    """One comparison."""

    batch: int
    height: int
    width: int
    pattern: str
    logits_difference: float
    """max |onnxruntime - torch| / max |torch|"""
    near: float
    """share of pixels whose logits all differ by no more than `LOGITS`"""
    label_agreement: float
    """share of pixels with the same label"""
    own_near: float = 1.0
    """`near` of torch in float32 against torch in float64, where switches flipped: what rounding alone does"""
    images: int = 1
    """how many images it took; more than one only where a switch flipped"""

    @property
    def size(self) -> tuple[int, int, int]:
        return self.batch, self.height, self.width

    @property
    def pixels(self) -> int:
        return math.prod(self.size)


@dataclass(frozen=True)
class Proof:
    """What was compared, and how it came out."""

    cases: tuple[Case, ...]
    unpooling: bool
    """True for networks that unpool: their switches may flip."""

    half: bool = False
    """True for float16."""

    @property
    def logits_difference(self) -> float:
        """The worst of all cases; NaN if one is."""
        return float(np.max([case.logits_difference for case in self.cases]))

    @property
    def label_agreement(self) -> float:
        """Over all pixels of all telling cases."""
        return self._share("label_agreement")

    @property
    def near(self) -> float:
        """Share of pixels whose logits are all within `LOGITS`, over all pixels of all telling cases."""
        return self._share("near")

    def _share(self, what: Literal["near", "label_agreement"]) -> float:
        pixels = sum(case.pixels for case in self.telling)
        return sum(getattr(case, what) * case.pixels for case in self.telling) / pixels if pixels else math.nan

    def accepts(self, case: Case) -> bool:
        """Whether one comparison is good enough by itself. False for NaN."""
        if not self.unpooling:
            # Of float16's logits only NaN is refused: its labels are judged, over all cases.
            return case.logits_difference <= (1.0 if self.half else LOGITS)
        if case.pixels < 1000:
            return math.isfinite(case.logits_difference)
        return case.label_agreement >= UNPOOLING_FLOOR if self.half else case.near >= UNPOOLING_FLOOR

    @property
    def holds(self) -> bool:
        """Every telling comparison is good enough, each size has one, and so are the labels over all their pixels."""
        if not all(map(self.accepts, self.telling)):
            return False
        if {case.size for case in self.telling} < {case.size for case in self.cases}:
            return False
        match self.unpooling, self.half:
            case True, False:
                return self.label_agreement >= UNPOOLING_LABELS and self.near >= UNPOOLING_NEAR
            case True, True:
                return self.label_agreement >= HALF_UNPOOLING_LABELS
            case _:
                return self.label_agreement >= (HALF_LABELS if self.half else LABELS)

    @property
    def telling(self) -> tuple[Case, ...]:
        """Cases that can tell a right graph from a wrong one: torch in float32 comes near torch in float64 there.

        Where it does not (a flat image, a network that amplifies its rounding), no two libraries agree.
        """
        return tuple(case for case in self.cases if case.own_near >= UNPOOLING_FLOOR)

    def to_dict(self) -> dict[str, Any]:
        return {
            "unpooling": self.unpooling,
            "half": self.half,
            "logits_difference": self.logits_difference,
            "label_agreement": self.label_agreement,
            "cases": [asdict(case) for case in self.cases],
        }


def prove(model: SegmentationModel, path: str | os.PathLike[str], form: Form, progress: Callable[[str], None]) -> Proof:
    """Runs model and file on the same images: four sizes other than the traced one, three images at once among them.

    A file for one fixed size is proved at that size, on as many images.

    Raises:
        ExportError: they differ by more than is allowed, or onnxruntime cannot run the file; the message says where.
    """
    session = open_session(path)
    proof = Proof((), any(isinstance(module, Unpool) for module in model.modules()), form.half)
    every = [(size, pattern) for size in _sizes(unit(model), form.fixed) for pattern in ("noise", "scene")]
    exact: SegmentationModel | None = None  # in float64: made where it is needed, since it is twice as large
    for number, (size, pattern) in enumerate(every, 1):
        tried: list[tuple[Case, Tensor]] = []
        for attempt in range(1, (UNPOOLING_IMAGES if proof.unpooling else 1) + 1):
            progress(f"proving {number}/{len(every)}: {size[0]} x {size[1]} x {size[2]}, {pattern}")
            images = _images(size, model.config.in_channels, pattern, seed=10 * number + attempt)
            tried.append((_compare(model, session, images, form, pattern), images))
            if tried[-1][0].logits_difference <= LOGITS:
                break
        best, images = max(tried, key=lambda one: (0.0 if form.half else one[0].near, one[0].label_agreement))
        if proof.unpooling and not form.half and LOGITS < best.logits_difference < math.inf:
            exact = exact or copy.deepcopy(model).double()
            best = replace(best, own_near=_own_near(model, exact, images))
        proof = replace(proof, cases=(*proof.cases, replace(best, images=len(tried))))
    if not proof.holds:
        worst = max(proof.cases, key=lambda case: (not proof.accepts(case), case.logits_difference))
        raise ExportError(
            f"onnxruntime and torch disagree: logits by {proof.logits_difference:.2g} of the largest, the same label "
            f"on {proof.label_agreement:.4%} of pixels; worst at {worst.batch} x {worst.height} x {worst.width} "
            f"({worst.pattern}). No file was written. Weights that overflow or NaNs do this, and operators that "
            "onnxruntime computes otherwise."
        )
    return proof


def open_session(path: str | os.PathLike[str]) -> onnxruntime.InferenceSession:
    """On the CPU, so that a proof does not depend on the machine; onnxruntime's own log is silent, its errors are not.

    Raises:
        ExportError: onnxruntime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ExportError(f"onnxruntime refuses the graph: {error}. No file was written.") from error


def _sizes(k: int, fixed: tuple[int, int, int] | None) -> tuple[tuple[int, int, int], ...]:
    """(batch, height, width): tiny, odd, exact multiples in a batch, and larger than the traced size."""
    return (fixed,) * 4 if fixed else ((1, 1, 1), (1, k + 1, k + 15), (3, k, 2 * k), (1, 3 * k + 4, 4 * k + 5))


def _images(size: tuple[int, int, int], channels: int, pattern: str, seed: int) -> Tensor:
    """uint8 (N, H, W, C): noise, which excites everything, or discs on a gradient, as in a photograph."""
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
    model: SegmentationModel, session: onnxruntime.InferenceSession, images: Tensor, form: Form, pattern: str
) -> Case:
    with torch.inference_mode():
        labels, logits = model.classify(images)
        feed = images if form.io == "image" else model.normalise(images)
    try:
        outputs = session.run(None, {"image": feed.numpy()})
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ExportError(
            f"onnxruntime cannot run the graph at {' x '.join(map(str, images.shape[:3]))}: {error}. "
            "No file was written."
        ) from error
    theirs = outputs[-1]
    found = outputs[0] if form.io == "image" else theirs.argmax(1)
    ours = logits.numpy()
    if theirs.shape != ours.shape:
        raise ExportError(
            f"onnxruntime gives logits {theirs.shape} where torch gives {ours.shape}. No file was written."
        )
    difference = np.abs(theirs - ours).max(axis=1) / max(float(np.abs(ours).max()), 1e-12)
    batch, height, width = images.shape[:3]
    return Case(
        batch,
        height,
        width,
        pattern,
        logits_difference=float(difference.max()),
        near=float((difference <= LOGITS).mean()),
        label_agreement=float((found == labels.numpy()).mean()),
    )


def _own_near(model: SegmentationModel, exact: SegmentationModel, images: Tensor) -> float:
    """The share of pixels where float32 comes within `LOGITS` of float64, both in torch."""
    with torch.inference_mode():
        normalised = model.normalise(images)
        logits, theirs = model(normalised), exact(normalised.double())
    difference = (theirs - logits).abs().amax(1) / theirs.abs().max().clamp(min=1e-12)
    return float((difference <= LOGITS).double().mean())
