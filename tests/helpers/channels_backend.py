"""A backend in plain numpy, for each task and input dtype."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from backend_contract import DTYPES

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
