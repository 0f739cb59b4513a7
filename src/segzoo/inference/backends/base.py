"""`Backend`: the protocol of an engine that runs a model on a batch of images.

It is small on purpose: reading images, grouping them by size, tiles, test-time augmentation and streaming are the same
for every engine and belong to `Predictor`. `tests/helpers/backend_contract.py` checks an implementation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from segzoo.errors import OptionError
from segzoo.schema import whole_number
from segzoo.spec import ModelSpec

Output = Literal["mask", "confidence", "logits", "sampled_logits"]
"""What `Backend.run` can return.

"mask": as `Segmentation.mask`, with the batch in front: (N, H, W), or (N, K, H, W) for a multilabel model.
"confidence": float32 of the mask's shape, 0-1, the probability of what the mask says.
"logits": float32 (N, K, H, W), K the spec's `num_classes`.
"sampled_logits": like "logits", of one random run with dropout on, different for each image of the batch.
"""

Images = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class EngineOptions:
    """What a user may ask of an engine; see `Predictor`. An engine raises OptionError for what it does not have.

    Raises:
        OptionError: `threads` is not a whole number of 1 or more.
    """

    threads: int | None = None
    tf32: bool = False
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        if self.threads is not None:
            whole_number("threads", self.threads, 1)

    def refuse(self, engine: str) -> None:
        """Raises OptionError if any option is set, for an engine that has none."""
        given = [name for name, value in vars(self).items() if value not in (None, False)]
        if given:
            raise OptionError(f"{' and '.join(given)} cannot be set for {engine}. Leave it out, or use an .onnx file.")


@runtime_checkable
class Backend(Protocol):
    """A model that is loaded on a device and ready to run. Several threads may call `run` at the same time."""

    @property
    def spec(self) -> ModelSpec:
        """What the model is: its classes, task, channels, input dtype and size divisibility."""

    @property
    def outputs(self) -> frozenset[Output]:
        """What `run` can return; "mask" is among them if the model takes images."""

    @property
    def static_shape(self) -> tuple[int | None, int | None, int | None]:
        """(batch, height, width) that `run` requires; None where any number from 1 up will do."""

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "cuda:0" and so on."""

    @property
    def device_reason(self) -> str:
        """One sentence on why it runs there."""

    def run(self, images: Images, outputs: Sequence[Output]) -> dict[Output, npt.NDArray[Any]]:
        """Runs the model on images of one size.

        Args:
            images: (N, H, W, C) of the spec's `input_dtype`, RGB, N, H and W from 1 up.
            outputs: which of `self.outputs` to return.

        Returns:
            the outputs by name, in host memory, at the images' size. No later call writes to these arrays.

        Raises:
            ImageError: images of another shape or dtype.
            SegzooError: an output that is not among `self.outputs`; or the engine failed, for example out of memory.
            DeviceError: it failed on a GPU.
        """
