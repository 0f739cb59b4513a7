"""Static int8 quantization, calibrated on the user's own images and judged on others against float32."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from segzoo.errors import ExportError, SegzooError
from segzoo.exporting.onnx.calibration import CalibrationImages
from segzoo.exporting.onnx.verify import open_session
from segzoo.formatting import percent
from segzoo.inference.backends import onnxruntime
from segzoo.metrics import ConfusionMatrix
from segzoo.spec import ExportSpec

MAX_IOU_LOSS = 0.01
"""Largest loss of mean IoU, 0-1, where there are masks. Measured on CamVid: below 0.002 if int8 works, 0.085 if not."""

MIN_INT8_AGREEMENT = 0.98
"""Smallest share of pixels with float32's class, without masks. On CamVid, 0.992 if int8 works, 0.96 if not."""


@dataclass(frozen=True)
class Quantization:
    """int8 compared with float32, on images that did not calibrate it: as it runs on this CPU, and unoptimized.

    onnxruntime's optimization replaces the graph's nodes with integer kernels, which differ between CPUs; without it,
    each node computes what the graph says.
    """

    images: int
    """Number of images that calibrated it."""
    judged: int
    """Number of images that judged it."""
    pixel_agreement: float
    """Share of pixels with float32's class, 0-1."""
    unoptimized_agreement: float
    """The same without onnxruntime's optimization."""
    float_mean_iou: float | None = None
    """float32's mean IoU, 0-1; None if the images have no masks."""
    mean_iou: float | None = None
    """int8's mean IoU, 0-1."""
    unoptimized_mean_iou: float | None = None
    """The same without onnxruntime's optimization."""

    def __str__(self) -> str:
        text = (
            f"int8 and float32 give the same class on {self.pixel_agreement:.2%} of pixels of {self.judged} images "
            f"that did not calibrate it ({self.unoptimized_agreement:.2%} unoptimized)"
        )
        if self.iou_loss is None:
            return text
        return (
            f"{text}; mean IoU {percent(self.mean_iou)} ({percent(self.unoptimized_mean_iou)}), float32 "
            f"{percent(self.float_mean_iou)}"
        )

    @property
    def iou_loss(self) -> float | None:
        """Mean IoU that int8 loses, optimized or not, whichever is more; nan without labels, None without masks."""
        if self.float_mean_iou is None or self.mean_iou is None or self.unoptimized_mean_iou is None:
            return None
        return self.float_mean_iou - min(self.mean_iou, self.unoptimized_mean_iou)

    def require(self, max_iou_loss: float = MAX_IOU_LOSS, min_agreement: float = MIN_INT8_AGREEMENT) -> None:
        """Checks the loss of mean IoU if there are masks, and the agreement if there are none.

        Raises:
            ExportError: int8 is worse than that, optimized or not.
        """
        if self.iou_loss is None:
            agreement = min(self.pixel_agreement, self.unoptimized_agreement)
            failed = agreement < min_agreement
            floor = f"at least {min_agreement:.2%} is required (min_agreement)"
        else:
            # nan, if no pixel of the masks is labeled, is no evidence.
            failed = not self.iou_loss <= max_iou_loss
            floor = f"a loss of at most {100 * max_iou_loss:g} points is allowed (max_iou_loss)"
        if failed:
            raise ExportError(
                f"int8 changes this network's masks too much: {self}; {floor}. Calibrate it with more images like "
                "those it will see, or export fp32 or fp16. No file was written."
            )

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def quantize(
    path: Path, spec: ExportSpec, images: CalibrationImages, progress: Callable[[str], None]
) -> tuple[onnx.ModelProto, Quantization]:
    """Quantizes the convolutions of a float32 file (QDQ, uint8 activations, int8 weights per channel).

    Activations are uint8 because int8 activations are no faster than float32 on x86. Weights use 7 of their 8 bits:
    CPUs without VNNI add pairs of products of 8 bits each in 16 bits, which saturates.

    Args:
        path: a file that was exported with input="image".

    Returns:
        The quantized graph, and its comparison with `path`.

    Raises:
        ExportError: onnxruntime's quantizer failed.
        ImageError, DataError: an image or a mask cannot be read.
    """
    quantization = onnxruntime.quantization()
    base: Any = quantization.CalibrationDataReader

    class Reader(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.indices = iter(enumerate(images.calibrating, 1))

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            number, index = next(self.indices, (0, None))
            if index is None:
                return None
            progress(f"calibrating {number}/{len(images.calibrating)}")
            return {"image": _fit(images.read(index)[0], spec)}

    quantized = path.with_name(f"{path.stem}.int8{path.suffix}")
    try:
        quantization.quantize_static(
            path,
            quantized,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "ConvTranspose"],
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        comparison = _judge(path, quantized, spec, images, progress)
        return onnx.load(quantized), comparison
    except SegzooError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise ExportError(f"onnxruntime could not quantize this graph: {error}") from error
    finally:
        quantized.unlink(missing_ok=True)


def _fit(pixels: npt.NDArray[np.uint8], spec: ExportSpec) -> npt.NDArray[np.uint8]:
    """One image as a batch for the graph. For a static shape it is cropped, or padded by repeating its border."""
    if spec.static_shape is None:
        return pixels[None]
    batch, height, width = spec.static_shape
    pixels = pixels[:height, :width]
    padding = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
    return np.repeat(np.pad(pixels, padding, mode="edge")[None], batch, axis=0)


def _judge(
    path: Path, quantized: Path, spec: ExportSpec, images: CalibrationImages, progress: Callable[[str], None]
) -> Quantization:
    sessions = open_session(path), open_session(quantized), open_session(quantized, optimized=False)
    num_classes = len(images.classes) if images.classes else 1
    matrices = [ConfusionMatrix(num_classes, images.ignore_index) for _ in sessions]
    same, total = [0, 0], 0
    for number, index in enumerate(images.judging, 1):
        progress(f"comparing int8 with float32, {number}/{len(images.judging)}")
        pixels, truth = images.read(index)
        batch = _fit(pixels, spec)
        # A static shape repeats the image in its batch and pads it; both would count twice.
        height, width = np.minimum(pixels.shape[:2], batch.shape[1:3])
        masks = [session.run(["mask"], {"image": batch})[0][0, :height, :width] for session in sessions]
        same = [count + int((mask == masks[0]).sum()) for count, mask in zip(same, masks[1:], strict=True)]
        total += masks[0].size
        if truth is not None:
            for matrix, mask in zip(matrices, masks, strict=True):
                matrix.update(mask, truth[:height, :width])
    scores = [matrix.mean_iou for matrix in matrices] if images.classes else [None] * 3
    return Quantization(len(images.calibrating), len(images.judging), same[0] / total, same[1] / total, *scores)
