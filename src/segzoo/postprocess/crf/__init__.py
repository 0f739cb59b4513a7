"""The fully connected CRF that sharpens a network's scores along the edges of the photograph.

Kraehenbuehl, Koltun: Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, NIPS 2011, arXiv
1210.5644; the second half of DeepLab (Chen et al., arXiv 1412.7062). Mean field: each pixel's class probabilities are
those of its logits and of what all other pixels tell it, under two Gaussian kernels,

    w1 exp(-|p|^2 / 2 theta_alpha^2 - |I|^2 / 2 theta_beta^2)  +  w2 exp(-|p|^2 / 2 theta_gamma^2)

of the difference p in place, in pixels, and I in colour, in levels of 0-255, with Potts compatibility.

What differs from the paper: both kernels are normalised symmetrically (see `kernels.py`), and a pixel's own vote is
among those that it hears, as in the authors' released code, for which the published parameters were chosen. The
smoothness kernel is computed exactly, not by the lattice.

    refined = crf.refine(logits, image)
    refined.labels, refined.probabilities

Floor "no torch": numpy and scipy.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segzoo.data.images import ImageLike, read_image
from segzoo.errors import ImageError, OptionError, unknown
from segzoo.postprocess.crf.kernels import Appearance, Smoothness
from segzoo.postprocess.crf.lattice import Floats
from segzoo.postprocess.crf.presets import PRESETS, Parameters, number

__all__ = ["PRESETS", "Parameters", "Refined", "logits_from_labels", "refine"]

Kernel = Callable[[Floats], Floats]


class Refined(NamedTuple):
    """What `refine` gives.

    Attributes:
        labels: class ids (H, W), or (N, H, W) for a batch; uint8, or int32 for more than 256 classes.
        probabilities: float32 (C, H, W), or (N, C, H, W): mean field's marginals, 0-1, which add up to 1 over C.
    """

    labels: npt.NDArray[Any]
    probabilities: Floats


def refine(
    logits: Any,
    image: ImageLike | Sequence[ImageLike],
    preset: str | Parameters = "deeplab",
    *,
    iterations: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Refined:
    """The labels of an image after mean field in a fully connected CRF.

    Args:
        logits: float (C, H, W), or (N, C, H, W) for a batch: a numpy array, or a torch tensor on any device; C is 2 or
            more. Of probabilities, pass the logarithm. -inf rules a class out.
        image: what the logits were computed from, of the same H and W, before normalisation: uint8 RGB (H, W, 3),
            0-255, a path or a PIL image; for a batch a list of N images, or uint8 (N, H, W, 3).
        preset: a name in `PRESETS`, or your own `Parameters`.
        iterations: steps of mean field, from 0 up; 0 gives the softmax of the logits.
        progress: called as progress(done, total) after each of `total` steps: the iterations of each image, and one
            more for each image's lattice.

    Raises:
        UnknownNameError: there is no such preset.
        OptionError: `iterations` is below 0, or a range is too small for the image.
        ImageError: logits of another shape or kind, NaN or infinite ones, probabilities in their place; an image that
            cannot be read, or is not of the logits' size.

    Source: algorithm 1 of arXiv 1210.5644.
    """
    parameters = _parameters(preset)
    steps = _whole("iterations", iterations, 0)
    values = _logits(logits)
    several = values.ndim == 4
    if not several:
        if _is_batch(image) or len(getattr(image, "shape", ())) == 4:
            raise ImageError("These are the logits of one image, (C, H, W), and several images. Pass one image.")
        values, images = values[None], [image]
    else:
        images = list(image) if _is_batch(image) else [image]  # type: ignore[arg-type]
        if len(images) != len(values):
            raise ImageError(
                f"The logits are those of {len(values)} images, (N, C, H, W), and the images are {len(images)}. Pass "
                "a list of N images, or logits[0] with one image."
            )
    # All of them are looked at before the first is refined, which may take a minute.
    pixels = [_pixels(one, values.shape[2:]) for one in images]  # type: ignore[arg-type]
    total = len(pixels) * (steps + 1)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    found: Floats = np.empty(values.shape, np.float32)
    for one, scores, probabilities in zip(pixels, values, found, strict=True):
        kernels = _kernels(one, parameters)
        tick()
        probabilities[:] = mean_field(scores.transpose(1, 2, 0), kernels, steps, tick).transpose(2, 0, 1)
    labels = found.argmax(1).astype(np.uint8 if found.shape[1] <= 256 else np.int32)
    return Refined(labels, found) if several else Refined(labels[0], found[0])


def logits_from_labels(labels: Any, num_classes: int, *, confidence: float = 0.7, ignored: int | None = None) -> Floats:
    """Logits that say so much of a label map: what `refine` takes to improve a noisy labelling.

    Args:
        labels: integers (H, W), or (N, H, W): a numpy array, or a torch tensor on any device.
        num_classes: C, 2 or more; ids are 0 to C - 1.
        confidence: the probability that a label is right, between 1 / C, which says nothing, and 1; the other classes
            share the rest.
        ignored: an id that says nothing of its pixel (`LabelSet.ignored`); None where there is none.

    Returns:
        float32 (C, H, W), or (N, C, H, W): the logarithms of probabilities.

    Raises:
        OptionError: fewer than 2 classes, a confidence outside its range, or an ignored id that is a class.
        ImageError: `labels` has another shape, is no integers, or holds an id that is neither a class nor ignored.
    """
    num_classes = _whole("num_classes", num_classes, 2)
    if not (number(confidence) and 1 / num_classes < confidence < 1):
        raise OptionError(f"confidence lies between 1 / num_classes = {1 / num_classes:.3g} and 1, not {confidence!r}.")
    if ignored is not None and 0 <= ignored < num_classes:
        raise OptionError(f"The ignored id {ignored} is a class; ignore an id outside 0-{num_classes - 1}.")
    ids = _array(labels)
    if ids.ndim not in (2, 3) or ids.dtype.kind not in "iu" or ids.size == 0:
        raise ImageError(f"Labels are integers (H, W) or (N, H, W) with pixels, not {ids.dtype} {ids.shape}.")
    silent = np.zeros(ids.shape, np.bool_) if ignored is None else ids == ignored
    wrong = ids[~silent & ((ids < 0) | (ids >= num_classes))]
    if wrong.size:
        raise ImageError(f"The labels hold the id {wrong[0]}; the classes are 0-{num_classes - 1}. Pass ignored=...")
    classes = np.arange(num_classes).reshape(-1, 1, 1)
    here = np.expand_dims(ids, -3) == classes
    logits = np.where(here, np.log(confidence), np.log((1 - confidence) / (num_classes - 1)))
    filled: Floats = np.where(np.expand_dims(silent, -3), -np.log(num_classes), logits).astype(np.float32)
    return filled


def mean_field(
    logits: npt.NDArray[Any], kernels: Sequence[tuple[float, Kernel]], iterations: int, tick: Callable[[], None]
) -> Floats:
    """Mean field with Potts compatibility: Q = softmax(logits + sum of w K Q), again and again.

    Potts takes from a class what the others are told; since each pixel's probabilities add up to 1, that is what the
    class itself is told, but for a number that all classes share.

    Args:
        logits: float (H, W, C).
        kernels: each with its weight.
        iterations: how often.
        tick: called after each.

    Returns:
        float32 (H, W, C), probabilities.
    """
    unary = np.array(logits, np.float32, order="C")
    unary -= unary.max(2, keepdims=True)
    q = _softmax(unary.copy())
    for _ in range(iterations):
        scores = unary.copy()
        for weight, kernel in kernels:
            message = kernel(q)
            message *= np.float32(weight)
            scores += message
        q = _softmax(scores)
        tick()
    return q


def _softmax(scores: Floats) -> Floats:
    """Over the last axis, in place."""
    scores -= scores.max(2, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(2, keepdims=True)
    return scores


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
        raise OptionError(f"A preset is a name or crf.Parameters, not {preset!r}.")
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS, f"The presets are {', '.join(PRESETS)}, or pass your own Parameters.")
    return PRESETS[preset]


def _whole(name: str, value: Any, least: int) -> int:
    try:
        whole = operator.index(value)
    except TypeError:
        raise OptionError(f"{name} is a whole number, not {value!r}.") from None
    if isinstance(value, bool):
        raise OptionError(f"{name} is a whole number, not {value}.")
    if whole < least:
        raise OptionError(f"{name} is {least} or more, not {value}.")
    return whole


def _array(values: Any) -> npt.NDArray[Any]:
    # By what it can do and not by its type: this floor knows no torch. Half floats too, which numpy lacks in part.
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)


def _logits(logits: Any) -> npt.NDArray[Any]:
    values = _array(logits)
    if values.dtype.kind != "f" or values.ndim not in (3, 4) or values.size == 0:
        advice = ""
        if values.dtype.kind in "iu" and values.ndim in (2, 3):
            advice = " Of a label map, pass crf.logits_from_labels(labels, num_classes)."
        raise ImageError(
            f"Logits are floats (C, H, W) or (N, C, H, W) with pixels, not {values.dtype} {values.shape}.{advice}"
        )
    classes = values.shape[-3]
    if classes < 2:
        raise ImageError(
            f"Logits need 2 classes or more, not {classes}. Of one foreground score, pass two: 0 for the background, "
            "then the score."
        )
    # NaN comes through max; a pixel that is -inf throughout has no class left.
    highest = values.max(-3)
    if not np.isfinite(highest).all():
        bad = int(np.count_nonzero(~np.isfinite(highest)))
        raise ImageError(
            f"The logits of {bad} of {highest.size} pixels are NaN, +inf, or -inf for every class. Look at the model "
            "that gave them."
        )
    if values.min() >= 0 and np.allclose(values.sum(-3), 1, atol=1e-3):
        raise ImageError(
            "These are probabilities: they add up to 1 at each pixel. Pass logits, or the logarithm of the "
            "probabilities."
        )
    return values


def _is_batch(image: Any) -> bool:
    return isinstance(image, list | tuple) or (isinstance(image, np.ndarray) and image.ndim == 4)


def _pixels(image: ImageLike, size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    pixels = read_image(image, 3)
    if pixels.shape[:2] != size:
        raise ImageError(
            f"The logits are {size[0]} x {size[1]} and the image is {pixels.shape[0]} x {pixels.shape[1]} (H x W). "
            "Resize the logits to the image, bilinearly."
        )
    return pixels
