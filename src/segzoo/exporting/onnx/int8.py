"""Static int8 quantisation, calibrated on the user's own images, and an account of what it changed."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from segzoo.data.images import ImageLike, read_image
from segzoo.errors import ExportError, SegzooError
from segzoo.exporting.onnx.graph import Form
from segzoo.exporting.onnx.verify import open_session
from segzoo.formatting import percent


@dataclass(frozen=True)
class Quantisation:
    """int8 beside float32, on the calibration images."""

    images: int
    label_agreement: float
    """share of pixels with the same label"""
    mean_iu: float
    """mean over classes of intersection over union, with float32's labels taken for the truth"""

    def __str__(self) -> str:
        return (
            f"int8 keeps the label of {self.label_agreement:.2%} of pixels of {self.images} calibration images, mean "
            f"IU with float32's labels {percent(self.mean_iu)}"
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def quantise(
    path: Path, form: Form, calibration: Sequence[ImageLike], channels: int, progress: Callable[[str], None]
) -> tuple[onnx.ModelProto, Quantisation]:
    """A float32 file -> its graph with quantised convolutions (QDQ, uint8 activations, int8 weights per channel).

    Activations are uint8 since int8 ones are no faster than float32 on x86.

    Raises:
        ExportError: the form is not "image", or onnxruntime's quantiser failed.
        ImageError: an image cannot be read.
    """
    if form.io != "image":
        raise ExportError("precision='int8' needs io='image': calibration takes images as they are.")
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = iter(enumerate(calibration, 1))

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            number, image = next(self.images, (0, None))
            if image is None:
                return None
            progress(f"calibrating {number}/{len(calibration)}")
            return {"image": _fit(read_image(image, channels), form)}

    quantised = path.with_name(f"{path.stem}.int8{path.suffix}")
    try:
        quantization.quantize_static(
            path,
            quantised,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "ConvTranspose"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        account = _compare(path, quantised, form, calibration, channels, progress)
        return onnx.load(quantised), account
    except SegzooError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise ExportError(f"onnxruntime could not quantise this graph: {error}") from error
    finally:
        quantised.unlink(missing_ok=True)


def _fit(pixels: npt.NDArray[np.uint8], form: Form) -> npt.NDArray[np.uint8]:
    """One image as the batch that the graph takes: for a fixed size, cropped or padded with its border."""
    if form.fixed is None:
        return pixels[None]
    batch, height, width = form.fixed
    pixels = pixels[:height, :width]
    short = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
    return np.repeat(np.pad(pixels, short, mode="edge")[None], batch, axis=0)


def _compare(
    path: Path,
    quantised: Path,
    form: Form,
    calibration: Sequence[ImageLike],
    channels: int,
    progress: Callable[[str], None],
) -> Quantisation:
    before, after = open_session(path), open_session(quantised)
    pairs: dict[int, tuple[int, int]] = {}
    same = total = 0
    for number, image in enumerate(calibration, 1):
        progress(f"comparing int8 with float32, {number}/{len(calibration)}")
        batch = _fit(read_image(image, channels), form)
        a, b = (session.run(["labels"], {"image": batch})[0] for session in (before, after))
        same, total = same + int((a == b).sum()), total + a.size
        for label in np.union1d(a, b).tolist():
            both, either = pairs.get(label, (0, 0))
            pairs[label] = (
                both + int(((a == label) & (b == label)).sum()),
                either + int(((a == label) | (b == label)).sum()),
            )
    mean_iu = float(np.mean([both / either for both, either in pairs.values()]))
    return Quantisation(len(calibration), same / total, mean_iu)
