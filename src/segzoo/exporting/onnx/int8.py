"""Static int8 quantization, calibrated on the user's own images, and a comparison of its masks with float32's."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from segzoo.data.images import ImageLike, read_image
from segzoo.errors import ExportError, SegzooError
from segzoo.exporting.onnx.verify import open_session
from segzoo.formatting import percent
from segzoo.inference.backends import onnxruntime
from segzoo.spec import ExportSpec


@dataclass(frozen=True)
class Quantization:
    """int8 compared with float32, on the calibration images."""

    images: int
    """Number of calibration images."""
    pixel_agreement: float
    """Share of pixels with the same class."""
    mean_iou: float
    """Mean IoU over the classes that occur, with float32's masks as the ground truth."""

    def __str__(self) -> str:
        return (
            f"int8 and float32 give the same class on {self.pixel_agreement:.2%} of pixels of {self.images} "
            f"calibration images, mean IoU {percent(self.mean_iou)}"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def quantize(
    path: Path, spec: ExportSpec, calibration: Sequence[ImageLike], channels: int, progress: Callable[[str], None]
) -> tuple[onnx.ModelProto, Quantization]:
    """Quantizes the convolutions of a float32 file (QDQ, uint8 activations, int8 weights per channel).

    Activations are uint8 because int8 activations are no faster than float32 on x86.

    Args:
        path: a file that was exported with input="image".

    Returns:
        The quantized graph, and its comparison with `path`.

    Raises:
        ExportError: onnxruntime's quantizer failed.
        ImageError: an image cannot be read.
    """
    quantization = onnxruntime.quantization()
    base: Any = quantization.CalibrationDataReader

    class Reader(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = iter(enumerate(calibration, 1))

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            number, image = next(self.images, (0, None))
            if image is None:
                return None
            progress(f"calibrating {number}/{len(calibration)}")
            return {"image": _fit(read_image(image, channels), spec)}

    quantized = path.with_name(f"{path.stem}.int8{path.suffix}")
    try:
        quantization.quantize_static(
            path,
            quantized,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "ConvTranspose"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        comparison = _compare(path, quantized, spec, calibration, channels, progress)
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


def _compare(
    path: Path,
    quantized: Path,
    spec: ExportSpec,
    calibration: Sequence[ImageLike],
    channels: int,
    progress: Callable[[str], None],
) -> Quantization:
    sessions = open_session(path), open_session(quantized)
    counts: dict[int, tuple[int, int]] = {}  # class id -> pixels of the intersection, of the union
    same = total = 0
    for number, image in enumerate(calibration, 1):
        progress(f"comparing int8 with float32, {number}/{len(calibration)}")
        batch = _fit(read_image(image, channels), spec)
        a, b = (session.run(["mask"], {"image": batch})[0] for session in sessions)
        same, total = same + int((a == b).sum()), total + a.size
        for class_id in np.union1d(a, b).tolist():
            intersection, union = counts.get(class_id, (0, 0))
            counts[class_id] = (
                intersection + int(((a == class_id) & (b == class_id)).sum()),
                union + int(((a == class_id) | (b == class_id)).sum()),
            )
    mean_iou = float(np.mean([intersection / union for intersection, union in counts.values()]))
    return Quantization(len(calibration), same / total, mean_iou)
