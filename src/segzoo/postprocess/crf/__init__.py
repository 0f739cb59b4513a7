"""The fully connected CRF, which aligns a network's predictions with the edges in the image.

Kraehenbuehl, Koltun: Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, NIPS 2011, arXiv
1210.5644; the second half of DeepLab (Chen et al., arXiv 1412.7062). In mean-field inference, each pixel's class
probabilities follow from its own logits and the messages of all other pixels, under two Gaussian kernels with Potts
compatibility:

    w1 exp(-|p|^2 / 2 theta_alpha^2 - |I|^2 / 2 theta_beta^2)  +  w2 exp(-|p|^2 / 2 theta_gamma^2)

p is the difference between two positions in pixels, I the difference between two colors in levels of 0-255.

Differences from the paper: both kernels are normalized symmetrically (see `kernels.py`), and a pixel also receives a
message from itself, as in the authors' released code, for which the published parameters were chosen. The smoothness
kernel is computed exactly instead of on the lattice.

    refined = crf.refine(logits, image)
    refined.mask, refined.probabilities
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segzoo._arguments import explained
from segzoo.data.images import ImageLike, read_image
from segzoo.errors import ImageError, OptionError, unknown
from segzoo.postprocess.crf.kernels import Appearance, Smoothness
from segzoo.postprocess.crf.lattice import Floats
from segzoo.postprocess.crf.presets import PRESETS, Parameters, is_finite_number
from segzoo.schema import whole_number

__all__ = ["PRESETS", "Parameters", "Refined", "logits_from_mask", "refine"]

Kernel = Callable[[Floats], Floats]


class Refined(NamedTuple):
    """Result of `refine`.

    Attributes:
        mask: class ids (H, W), or (N, H, W) for a batch; uint8, or int32 for more than 256 classes.
        probabilities: float32 (C, H, W), or (N, C, H, W): marginals of the mean-field
            approximation, 0-1; they sum to 1 over C.
    """

    mask: npt.NDArray[Any]
    probabilities: Floats


@explained
def refine(
    logits: Any,
    image: ImageLike | Sequence[ImageLike],
    preset: str | Parameters = "deeplab",
    *,
    iterations: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Refined:
    """Refines the logits of an image by mean-field inference in a fully connected CRF.

    Args:
        logits: floats (C, H, W), or (N, C, H, W) for a batch: a numpy array, or a torch tensor on any device; C is at
            least 2. If you have probabilities, pass their logarithm. -inf excludes a class.
        image: the image that the logits were computed from, with the same H and W, before normalization: uint8 RGB
            (H, W, 3), 0-255, a path or a PIL image; for a batch a list of N images, or uint8 (N, H, W, 3).
        preset: a name in `PRESETS`, or your own `Parameters`.
        iterations: number of mean-field iterations, 0 or more; 0 gives the softmax of the logits.
        progress: called as progress(done, total) after each of `total` steps: the iterations of each image, and one
            more per image to build its lattice.

    Raises:
        UnknownNameError: there is no such preset.
        OptionError: `iterations` is below 0, or a range is too small for the image.
        ImageError: the logits have the wrong shape or type, are NaN or infinite, or are probabilities; or the image
            cannot be read, or its size differs from that of the logits.

    Source: algorithm 1 of arXiv 1210.5644.
    """
    parameters = _parameters(preset)
    iterations = whole_number("iterations", iterations, 0)
    values = _logits(logits)
    batched = values.ndim == 4
    if not batched:
        if _is_batch(image) or len(getattr(image, "shape", ())) == 4:
            raise ImageError("The logits are (C, H, W), those of one image, but several images were given. Pass one.")
        values, images = values[None], [image]
    else:
        images = list(image) if _is_batch(image) else [image]  # type: ignore[arg-type]
        if len(images) != len(values):
            raise ImageError(
                f"The logits are (N, C, H, W) with N = {len(values)}, but the number of images is {len(images)}. Pass "
                "a list of N images, or logits[0] with one image."
            )
    # Check every image before refining the first one, which may take a minute.
    pixels = [_pixels(item, values.shape[2:]) for item in images]  # type: ignore[arg-type]
    total = len(pixels) * (iterations + 1)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    probabilities: Floats = np.empty(values.shape, np.float32)
    for index, (image_pixels, image_logits) in enumerate(zip(pixels, values, strict=True)):
        kernels = _kernels(image_pixels, parameters)
        tick()
        marginals = mean_field(image_logits.transpose(1, 2, 0), kernels, iterations, tick)
        probabilities[index] = marginals.transpose(2, 0, 1)
    mask = probabilities.argmax(1).astype(np.uint8 if probabilities.shape[1] <= 256 else np.int32)
    return Refined(mask, probabilities) if batched else Refined(mask[0], probabilities[0])


def logits_from_mask(
    mask: Any, num_classes: int, *, confidence: float = 0.7, ignore_index: int | None = None
) -> Floats:
    """Converts a mask to logits of a given confidence, so that `refine` can improve a noisy mask.

    Args:
        mask: class ids, integers (H, W), or (N, H, W) for a batch: a numpy array, or a torch tensor on any device.
        num_classes: C, 2 or more; class ids are 0 to C - 1.
        confidence: probability that a pixel's class id is correct, above 1 / C (no information) and below 1; the other
            classes share the rest.
        ignore_index: id of pixels without information (`ClassSet.ignore_index`): all classes get the same probability.
            None if there is no such id.

    Returns:
        float32 (C, H, W), or (N, C, H, W): the logarithms of probabilities.

    Raises:
        OptionError: fewer than 2 classes, a confidence outside its range, or an `ignore_index` that is a class.
        ImageError: `mask` has another shape or type, or contains an id that is neither a class nor `ignore_index`.
    """
    num_classes = whole_number("num_classes", num_classes, 2)
    if not (is_finite_number(confidence) and 1 / num_classes < confidence < 1):
        raise OptionError(
            f"confidence must be between 1 / num_classes = {1 / num_classes:.3g} and 1, not {confidence!r}."
        )
    if ignore_index is not None and 0 <= ignore_index < num_classes:
        raise OptionError(f"ignore_index {ignore_index} is a class. Use an id outside 0-{num_classes - 1}.")
    ids = _array(mask)
    if ids.ndim not in (2, 3) or ids.dtype.kind not in "iu" or ids.size == 0:
        raise ImageError(f"A mask must be non-empty integers (H, W) or (N, H, W), not {ids.dtype} {ids.shape}.")
    ignored = np.zeros(ids.shape, np.bool_) if ignore_index is None else ids == ignore_index
    invalid = ids[~ignored & ((ids < 0) | (ids >= num_classes))]
    if invalid.size:
        raise ImageError(f"The mask has id {invalid[0]}; the classes are 0-{num_classes - 1}. Pass ignore_index=...")
    one_hot = np.expand_dims(ids, -3) == np.arange(num_classes).reshape(-1, 1, 1)
    logits = np.where(one_hot, np.log(confidence), np.log((1 - confidence) / (num_classes - 1)))
    result: Floats = np.where(np.expand_dims(ignored, -3), -np.log(num_classes), logits).astype(np.float32)
    return result


def mean_field(
    logits: npt.NDArray[Any], kernels: Sequence[tuple[float, Kernel]], iterations: int, tick: Callable[[], None]
) -> Floats:
    """Mean-field inference with Potts compatibility: repeats Q = softmax(logits + sum of w K Q).

    The Potts model penalizes each class by the messages for all other classes. Because each pixel's probabilities sum
    to 1, this equals adding the messages for the class itself, up to a constant shared by all classes.

    Args:
        logits: floats (H, W, C).
        kernels: pairs of a weight and a kernel.
        iterations: number of iterations.
        tick: called after each iteration.

    Returns:
        float32 (H, W, C), probabilities.
    """
    unary = np.array(logits, np.float32, order="C")
    unary -= unary.max(2, keepdims=True)
    q = _softmax(unary.copy())
    for _ in range(iterations):
        updated = unary.copy()
        for weight, kernel in kernels:
            message = kernel(q)
            message *= np.float32(weight)
            updated += message
        q = _softmax(updated)
        tick()
    return q


def _softmax(logits: Floats) -> Floats:
    """Over the last axis, in place."""
    logits -= logits.max(2, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(2, keepdims=True)
    return logits


def _kernels(image: npt.NDArray[np.uint8], parameters: Parameters) -> list[tuple[float, Kernel]]:
    kernels: list[tuple[float, Kernel]] = []
    if parameters.w1 > 0:
        kernels.append((parameters.w1, Appearance(image, parameters.theta_alpha, parameters.theta_beta)))
    if parameters.w2 > 0:
        kernels.append((parameters.w2, Smoothness(image.shape[0], image.shape[1], parameters.theta_gamma)))
    return kernels


def _parameters(preset: str | Parameters) -> Parameters:
    if isinstance(preset, Parameters):
        return preset
    if not isinstance(preset, str):
        raise OptionError(f"preset must be a name or crf.Parameters, not {preset!r}.")
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS, f"The presets are {', '.join(PRESETS)}, or pass your own Parameters.")
    return PRESETS[preset]


def _array(values: Any) -> npt.NDArray[Any]:
    # Duck-typed, since this module must not import torch. numpy has no bfloat16, so torch converts to float32.
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)


def _logits(logits: Any) -> npt.NDArray[Any]:
    values = _array(logits)
    if values.dtype.kind != "f" or values.ndim not in (3, 4) or values.size == 0:
        advice = ""
        if values.dtype.kind in "iu" and values.ndim in (2, 3):
            advice = " To refine a mask, pass crf.logits_from_mask(mask, num_classes)."
        raise ImageError(
            f"Logits must be non-empty floats (C, H, W) or (N, C, H, W), not {values.dtype} {values.shape}.{advice}"
        )
    classes = values.shape[-3]
    if classes < 2:
        raise ImageError(
            f"Logits must have at least 2 classes, not {classes}. For a single foreground logit, pass two channels: 0 "
            "for the background, then the logit."
        )
    # max propagates NaN, and is -inf for a pixel whose classes are all -inf.
    largest = values.max(-3)
    invalid = int(np.count_nonzero(~np.isfinite(largest)))
    if invalid:
        raise ImageError(
            f"The logits of {invalid} of {largest.size} pixels are NaN, +inf, or -inf for every class. Check the model "
            "that computed them."
        )
    if values.min() >= 0 and np.allclose(values.sum(-3), 1, atol=1e-3):
        raise ImageError(
            "These are probabilities: they sum to 1 at each pixel. Pass logits, or the logarithm of the probabilities."
        )
    return values


def _is_batch(image: Any) -> bool:
    return isinstance(image, list | tuple) or (isinstance(image, np.ndarray) and image.ndim == 4)


def _pixels(image: ImageLike, size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    pixels = read_image(image, 3)
    if pixels.shape[:2] != size:
        raise ImageError(
            f"The logits are {size[0]} x {size[1]} and the image is {pixels.shape[0]} x {pixels.shape[1]} (H x W). "
            "Resize the logits to the image size by bilinear interpolation."
        )
    return pixels
