"""`Execution`: carries out a `Plan` on a backend: whole images in batches, tiles, views, samples."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segzoo.data.images import read_image
from segzoo.errors import ImageError, OptionError
from segzoo.inference import arrays, tiling
from segzoo.inference.backends.base import Backend, Output
from segzoo.inference.options import Plan
from segzoo.inference.result import Floats, Segmentation, mask_dtype
from segzoo.inference.sampling import mean_and_variance
from segzoo.inference.tta import mean_of_views

Pixels = npt.NDArray[Any]

GPU_BATCH = 8
"""Larger batches are hardly faster, and at 1024 x 2048 their activations fill a 16 GB GPU. On the CPU a batch is no
faster than its images one by one, and takes a multiple of their memory."""


class Execution:
    """A backend and what `Predictor` does with it."""

    def __init__(self, backend: Backend, name: str) -> None:
        """`name` is what messages call the model."""
        self.backend, self._name = backend, name
        self._spec = backend.spec
        self._batch, height, width = backend.static_shape
        self._size = None if height is None or width is None else (height, width)

    def check(self, plan: Plan) -> None:
        """Checks that the backend can carry out a plan.

        Raises:
            OptionError: it cannot; the message says why and what to do.
        """
        outputs = self.backend.outputs
        if plan.samples is not None and "sampled_logits" not in outputs:
            remedy = "Load the model in torch, since graphs have no dropout" if self._is_graph else "Leave it out"
            raise OptionError(f"samples= needs a model with dropout, which {self._name} does not have. {remedy}.")
        asked = {
            "tile=": plan.tile is not None,
            "tta=": plan.augments,
            "probabilities=True": plan.probabilities,
            "confidence=True": plan.confidence and "confidence" not in outputs,
        }
        needed = [option for option, is_asked in asked.items() if is_asked]
        if needed and "logits" not in outputs:
            raise OptionError(f"{' and '.join(needed)} cannot be used with {self._name}, which returns no logits.")
        if plan.page is not None and self._spec.input_dtype != "uint8":
            raise OptionError(
                f"page= is for files, and {self._name} takes {self._spec.input_dtype} arrays. Omit page=."
            )
        if self._size is not None and any(scale != 1 for scale, _ in plan.views):
            raise OptionError(f"{self._name} was exported for images of {self._size}; tta can only be 'flip'.")
        if self._size is not None and plan.tile not in (None, self._size):
            raise OptionError(f"{self._name} was exported for images of {self._size}; pass tile={self._size}.")

    def batch_size(self, plan: Plan, asked: int | None = None) -> int:
        """How many images of equal size run together."""
        if not plan.is_whole:
            return 1
        return self._batch or asked or (1 if self.backend.device == "cpu" else GPU_BATCH)

    def read(self, image: Any, plan: Plan) -> Any:
        """The pixels of an image, or the image itself if tiles can be sliced from it.

        Raises:
            ImageError: the image cannot be read, or does not fit the model.
        """
        plain = plan.channel_order == "RGB" and plan.page is None
        if plain and plan.tile is not None and arrays.is_sliceable(image, self._spec):
            return image
        if self._spec.input_dtype == "uint8":
            # In tiles, the memory of the network does not grow with the image, and Pillow's own limit is enough.
            limit = None if plan.tile is None else sys.maxsize
            return read_image(image, self._spec.in_channels, plan.channel_order, plan.page, limit)
        # Files of 16 bits and floats are read by whoever knows their range.
        arrays.check_images(image[None] if isinstance(image, np.ndarray) else image, self._spec)
        return image if plan.channel_order == "RGB" else np.ascontiguousarray(image[..., ::-1])

    def run(
        self, group: Sequence[tuple[Any, Pixels]], plan: Plan, out: npt.NDArray[Any] | None = None
    ) -> list[Segmentation]:
        """The results of images of equal shape, at most one batch.

        Args:
            group: each image as it was passed, and its pixels.
            out: receives the mask, if there is one image.
        """
        if plan.is_whole:
            values = self._whole([pixels for _, pixels in group], plan)
        elif plan.samples is not None:
            values = [self._sampled(pixels, plan, plan.samples) for _, pixels in group]
        else:
            values = [self._blended(pixels, plan, out) for _, pixels in group]
        results = []
        for (source, pixels), fields in zip(group, values, strict=True):
            if out is not None and fields["mask"] is not out:
                out[:] = fields["mask"]
                fields["mask"] = out
            if isinstance(source, str | os.PathLike):
                fields["path"], fields["page"] = Path(source), plan.page or 1
            elif isinstance(pixels, np.ndarray):
                fields["image"] = pixels
            results.append(Segmentation(classes=self._spec.classes, task=self._spec.task, **fields))
        return results

    @property
    def _is_graph(self) -> bool:
        return hasattr(self.backend, "export")

    def _whole(self, images: list[Pixels], plan: Plan) -> list[dict[str, Any]]:
        """The fields of the results of images of equal shape, from one run."""
        direct = plan.confidence and not plan.probabilities and "confidence" in self.backend.outputs
        outputs: list[Output] = ["mask"]
        if direct:
            outputs.append("confidence")
        elif plan.confidence or plan.probabilities:
            outputs.append("logits")
        values = self._run_batch(images, outputs)
        fields: list[dict[str, Any]] = [{"mask": mask} for mask in values["mask"]]
        for index, record in enumerate(fields):
            if direct:
                record["confidence"] = values["confidence"][index]
            elif "logits" in values:
                self._describe(record, self._to_probabilities(values["logits"][index]), plan)
        return fields

    def _sampled(self, pixels: Pixels, plan: Plan, samples: int) -> dict[str, Any]:
        """The fields of the result of one image: the mean of random predictions."""

        def sample(count: int) -> Floats:
            return self._to_probabilities(self._run_batch([pixels] * count, ["sampled_logits"])["sampled_logits"])

        mean, variance = mean_and_variance(sample, samples, pixels.shape[:2], self._batch)
        fields = {"mask": arrays.to_mask(mean, self._spec), "variance": variance}
        self._describe(fields, mean, plan)
        return fields | {"probabilities": mean}

    def _blended(self, pixels: Any, plan: Plan, out: npt.NDArray[Any] | None) -> dict[str, Any]:
        """The fields of the result of one image: blended tiles, or the mean of views, or both."""
        spec, size = self._spec, pixels.shape[:2]
        if plan.tile is None and self._size not in (None, size):
            raise ImageError(
                f"{self._name} was exported for images of {self._size}; got {size}. Pass tile={self._size}, or resize "
                "the image."
            )
        step, fixed = spec.size_divisibility, self._size is not None
        tiles = tiling.grid(size, plan.tile or size, plan.overlap, step, fixed, spec.context)
        planes = (len(spec.classes),) if spec.task == "multilabel" else ()
        dtype = mask_dtype(len(spec.classes) if spec.task == "multiclass" else 2)
        fields: dict[str, Any] = {"mask": np.empty((*planes, *size), dtype) if out is None else out}
        if plan.confidence:
            fields["confidence"] = np.empty((*planes, *size), np.float32)
        if plan.probabilities:
            fields["probabilities"] = np.empty((spec.num_classes, *size), np.float32)
        predict = mean_of_views(self._probabilities, list(plan.views))
        for rows, columns, part in tiling.blend(pixels, predict, spec.num_classes, tiles):
            values: dict[str, Any] = {"mask": arrays.to_mask(part, spec)}
            self._describe(values, part, plan)
            for name, value in values.items():
                fields[name][..., rows, columns] = value
        return fields

    def _describe(self, fields: dict[str, Any], probabilities: Floats, plan: Plan) -> None:
        """Adds what the plan asks for to the fields of a result."""
        if plan.confidence:
            fields["confidence"] = arrays.to_confidence(probabilities, self._spec.task)
        if plan.probabilities:
            fields["probabilities"] = probabilities

    def _probabilities(self, pixels: Pixels) -> Floats:
        """Probabilities, float32 (K, H, W), of one image, which is no larger than a fixed size."""
        height, width = pixels.shape[:2]
        if self._size is not None:
            pixels = arrays.pad(pixels, self._size, self._spec.mean)
        return self._to_probabilities(self._run_batch([pixels], ["logits"])["logits"][0, :, :height, :width])

    def _to_probabilities(self, logits: npt.NDArray[Any]) -> Floats:
        # A contiguous copy if need be, since it is overwritten.
        return arrays.to_probabilities(np.require(logits, np.float32, ["C", "W"]), self._spec.task)

    def _run_batch(self, images: list[Pixels], outputs: list[Output]) -> dict[Output, npt.NDArray[Any]]:
        # A fixed batch size must be filled: the last image is repeated, and the additional results are dropped.
        full = images + [images[-1]] * ((self._batch or 0) - len(images))
        values = self.backend.run(full[0][None] if len(full) == 1 else np.stack(full), outputs)
        return {name: value[: len(images)] for name, value in values.items()}
