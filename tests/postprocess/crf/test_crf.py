"""`segzoo.postprocess.crf.refine`, compared with a direct implementation of mean field, and on masks to improve."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from all_pairs import appearance, normalized, positions
from PIL import Image

import segzoo
from segzoo.errors import ImageError, OptionError, UnknownNameError
from segzoo.metrics import ConfusionMatrix
from segzoo.postprocess.crf import PRESETS, Parameters, logits_from_mask, mean_field, refine

MILD = Parameters(3, 20, 13, 2, 2)


def random_logits(classes: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(classes, height, width)).astype(np.float32)


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image of three areas in different colors with sensor noise, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:60, :80]
    mask = np.where((y - 30) ** 2 + (x - 35) ** 2 < 18**2, 1, np.where(x + y > 95, 2, 0)).astype(np.uint8)
    colors = np.array([[60, 110, 160], [200, 60, 50], [90, 160, 60]])[mask]
    return np.clip(colors + rng.normal(0, 6, colors.shape), 0, 255).astype(np.uint8), mask


def reference(logits: np.ndarray, kernels: list[tuple[float, np.ndarray]], iterations: int) -> np.ndarray:
    """Algorithm 1 with a compatibility matrix, over all pairs of pixels; logits (C, pixels)."""
    potts = 1 - np.eye(len(logits))
    unary = -np.log(np.exp(logits) / np.exp(logits).sum(0))
    q = np.exp(-unary)
    for _ in range(iterations):
        energy = unary + sum(weight * potts @ (q @ kernel) for weight, kernel in kernels)
        q = np.exp(-energy)
        q /= q.sum(0)
    return q


def test_mean_field_is_algorithm_1(photograph: np.ndarray) -> None:
    image, logits = photograph[100:112, 200:215], random_logits(5, 12, 15)
    matrices = [(4.0, appearance(image, 20, 13)), (3.0, normalized(positions(12, 15, 3)))]
    kernels = [
        (weight, lambda q, matrix=matrix: (matrix @ q.reshape(180, 5)).reshape(q.shape).astype(np.float32))
        for weight, matrix in matrices
    ]
    expected = reference(logits.reshape(5, -1).astype(np.float64), matrices, 10)
    q = mean_field(logits.transpose(1, 2, 0), kernels, 10, lambda: None)
    np.testing.assert_allclose(q.reshape(180, 5).T, expected, atol=1e-5)


def test_the_smoothness_kernel_alone_is_exact() -> None:
    logits = random_logits(4, 20, 30)
    q = refine(logits, random_image(20, 30), Parameters(0, 1, 1, 3, 3)).probabilities
    expected = reference(logits.reshape(4, -1).astype(np.float64), [(3.0, normalized(positions(20, 30, 3)))], 10)
    np.testing.assert_allclose(q.reshape(4, -1), expected, atol=1e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_masks_equal_those_of_all_pairs(photograph: np.ndarray, preset: str) -> None:
    """Except for one pixel in a hundred, after ten iterations with the error of the lattice."""
    parameters, image = PRESETS[preset], photograph[150:190, 200:250]
    rng = np.random.default_rng(0)
    noisy = np.where(image.mean(2) > 110, 1, 0) + np.where(image[..., 2] > 180, 1, 0)
    noisy = np.where(rng.random(noisy.shape) < 0.25, rng.integers(0, 3, noisy.shape), noisy)
    logits = logits_from_mask(noisy, 3, confidence=0.6)
    kernels = [
        (parameters.w1, appearance(image, parameters.theta_alpha, parameters.theta_beta)),
        (parameters.w2, normalized(positions(40, 50, parameters.theta_gamma))),
    ]
    expected = reference(logits.reshape(3, -1).astype(np.float64), kernels, 10).argmax(0).reshape(40, 50)
    mask = refine(logits, image, preset).mask
    assert (mask != noisy).mean() > 0.1
    assert (mask == expected).mean() > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_torch_and_numpy_give_the_same_result(dtype: torch.dtype) -> None:
    logits = torch.tensor(random_logits(3, 18, 23), dtype=dtype, requires_grad=True)
    image = random_image(18, 23)
    from_torch, from_numpy = refine(logits, image, MILD), refine(logits.detach().float().numpy(), image, MILD)
    np.testing.assert_array_equal(from_torch.mask, from_numpy.mask)
    np.testing.assert_allclose(from_torch.probabilities, from_numpy.probabilities, atol=1e-5)
    assert type(from_torch.mask) is type(from_torch.probabilities) is np.ndarray


def test_a_batch_equals_its_images_one_by_one(tmp_path: Path) -> None:
    logits = np.stack([random_logits(3, 14, 11, seed) for seed in (1, 2)])
    images = np.stack([random_image(14, 11, seed) for seed in (1, 2)])
    batch = refine(logits, images, MILD)
    assert batch.mask.shape == (2, 14, 11) and batch.probabilities.shape == (2, 3, 14, 11)
    Image.fromarray(images[1]).save(tmp_path / "second.png")
    for index, image in enumerate([Image.fromarray(images[0]), tmp_path / "second.png"]):
        single = refine(logits[index], image, MILD)
        np.testing.assert_array_equal(batch.mask[index], single.mask)
        np.testing.assert_array_equal(batch.probabilities[index], single.probabilities)


@pytest.mark.parametrize(("classes", "dtype"), [(2, np.uint8), (257, np.int32)])
def test_masks_are_the_most_probable_classes(classes: int, dtype: type) -> None:
    mask, probabilities = refine(random_logits(classes, 9, 7), random_image(9, 7), MILD)
    assert mask.dtype == dtype and probabilities.dtype == np.float32
    np.testing.assert_array_equal(mask, probabilities.argmax(0))
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"preset": Parameters(0, 1, 1, 0, 1)}])
def test_without_messages_it_is_the_softmax(options: dict[str, Any]) -> None:
    logits = random_logits(5, 6, 8)
    expected = torch.from_numpy(logits).softmax(0)
    np.testing.assert_allclose(refine(logits, random_image(6, 8), **options).probabilities, expected, atol=1e-6)


def test_uniform_logits_stay_uniform() -> None:
    np.testing.assert_allclose(refine(np.zeros((4, 20, 20)), random_image(20, 20)).probabilities, 0.25, atol=1e-5)


def test_a_constant_added_to_all_classes_changes_nothing() -> None:
    logits, image = random_logits(3, 16, 16), random_image(16, 16)
    shifted = refine(logits + 50 * random_logits(1, 16, 16, 3), image, MILD).probabilities
    np.testing.assert_allclose(shifted, refine(logits, image, MILD).probabilities, atol=1e-3)


def test_an_excluded_class_stays_excluded() -> None:
    logits = random_logits(3, 16, 16)
    logits[1, :8] = -np.inf
    mask, probabilities = refine(logits, random_image(16, 16), MILD)
    assert (probabilities[1, :8] == 0).all() and np.isfinite(probabilities).all() and (mask[:8] != 1).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_noisy_mask_is_improved(preset: str) -> None:
    image, truth = scene()
    rng = np.random.default_rng(1)
    noisy = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 3, truth.shape), truth)
    assert (noisy == truth).mean() < 0.85
    assert (refine(logits_from_mask(noisy, 3), image, preset).mask == truth).mean() > 0.99


def test_a_blurred_border_moves_to_the_edge_in_the_image() -> None:
    """Its purpose in DeepLab, whose logits are at one eighth."""
    image, truth = scene()
    coarse = torch.tensor(truth[4::8, 4::8].astype(np.int64))
    small = torch.nn.functional.one_hot(coarse, 3).permute(2, 0, 1)[None].float()
    logits = 4 * torch.nn.functional.interpolate(small, truth.shape, mode="bilinear")[0]
    before = (logits.argmax(0).numpy() == truth).mean()
    after = (refine(logits, image).mask == truth).mean()
    assert before < 0.95 and after > 0.99


def test_camvid_is_improved(camvid: Path) -> None:
    """A mask at one eighth with one pixel in seven wrong; 11 classes, on two images of val."""
    before, after = ConfusionMatrix(11, ignore_index=11), ConfusionMatrix(11, ignore_index=11)
    rng = np.random.default_rng(0)
    for path in sorted((camvid / "val" / "images").glob("*.jpg"))[::60]:
        image = np.asarray(Image.open(path))[::2, ::2]
        truth = np.asarray(Image.open(camvid / "val" / "masks" / f"{path.stem}.png"))[::2, ::2]
        coarse = truth[2::4, 2::4]
        coarse = np.where(rng.random(coarse.shape) < 0.15, rng.integers(0, 11, coarse.shape), coarse)
        noisy = np.where(coarse == 11, 0, coarse).repeat(4, 0).repeat(4, 1)
        before.update(noisy, truth)
        logits = logits_from_mask(noisy, 11, confidence=0.5)
        after.update(refine(logits, image, iterations=5).mask, truth)
    assert after.pixel_accuracy > before.pixel_accuracy + 0.05
    assert after.mean_iou > before.mean_iou + 0.1


def test_progress_counts_to_the_end() -> None:
    calls: list[tuple[int, int]] = []
    refine(
        np.stack([random_logits(2, 8, 8)] * 2),
        [random_image(8, 8)] * 2,
        iterations=3,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(done, 8) for done in range(1, 9)]


def test_a_mask_becomes_logits() -> None:
    mask = np.array([[0, 2], [255, 1]], np.uint8)
    probabilities = np.exp(logits_from_mask(mask, 3, confidence=0.8, ignore_index=255))
    np.testing.assert_allclose(probabilities[:, 0, 0], [0.8, 0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(probabilities[:, 0, 1], [0.1, 0.1, 0.8], rtol=1e-5)
    np.testing.assert_allclose(probabilities[:, 1, 0], 1 / 3, rtol=1e-5)
    batch = logits_from_mask(torch.tensor(mask[None].astype(np.int64)), 3, confidence=0.8, ignore_index=255)
    np.testing.assert_allclose(np.exp(batch[0]), probabilities, rtol=1e-5)


@pytest.mark.parametrize(
    ("mask", "options", "error", "message"),
    [
        (np.zeros((2, 2)), {}, ImageError, "A mask must be non-empty integers"),
        (np.zeros(4, np.uint8), {}, ImageError, "A mask must be non-empty integers"),
        (np.full((2, 2), 9), {}, ImageError, r"has id 9; the classes are 0-2.*ignore_index="),
        (np.zeros((2, 2), np.uint8), {"num_classes": 1}, OptionError, "num_classes must be 2 or more"),
        (np.zeros((2, 2), np.uint8), {"num_classes": "3"}, OptionError, "num_classes must be a whole number, not '3'"),
        (np.zeros((2, 2), np.uint8), {"num_classes": 3.0}, OptionError, "num_classes must be a whole number"),
        (np.zeros((2, 2), np.uint8), {"num_classes": True}, OptionError, "num_classes must be a whole number"),
        (np.zeros((2, 2), np.uint8), {"confidence": "0.5"}, OptionError, "confidence must be between .* not '0.5'"),
        (np.zeros((2, 2), np.uint8), {"confidence": 1.0}, OptionError, "confidence must be between"),
        (np.zeros((2, 2), np.uint8), {"confidence": 0.3}, OptionError, "confidence must be between"),
        (np.zeros((2, 2), np.uint8), {"ignore_index": 1}, OptionError, "ignore_index 1 is a class"),
    ],
)
def test_invalid_masks_are_rejected(
    mask: np.ndarray, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        logits_from_mask(mask, **{"num_classes": 3, **options})


LOGITS = random_logits(3, 8, 9)
IMAGE = random_image(8, 9)


def with_value(value: float) -> np.ndarray:
    logits = LOGITS.copy()
    logits[:, 2, 3] = value
    return logits


@pytest.mark.parametrize(
    ("logits", "image", "message"),
    [
        (LOGITS[0], IMAGE, r"Logits must be non-empty floats \(C, H, W\)"),
        (LOGITS[0].astype(np.uint8), IMAGE, "logits_from_mask"),
        (LOGITS.astype(np.int64), IMAGE, "Logits must be non-empty floats"),
        (LOGITS[:, :0], IMAGE, "non-empty floats"),
        (LOGITS[:1], IMAGE, "at least 2 classes"),
        (with_value(np.nan), IMAGE, "1 of 72 pixels are NaN"),
        (with_value(np.inf), IMAGE, "1 of 72 pixels"),
        (with_value(-np.inf), IMAGE, "1 of 72 pixels"),
        (np.full((4, 8, 9), 0.25), IMAGE, "These are probabilities"),
        (LOGITS, IMAGE[:7], r"logits are 8 x 9 and the image is 7 x 9.*Resize the logits"),
        (LOGITS, IMAGE.transpose(2, 0, 1), "channels first"),
        (LOGITS, IMAGE / 255, "Floats have no fixed range"),
        (LOGITS, [IMAGE], "several images"),
        (LOGITS, torch.from_numpy(IMAGE)[None], "several images"),
        (LOGITS[None], [IMAGE, IMAGE], "N = 1, but the number of images is 2"),
        (np.stack([LOGITS, LOGITS]), IMAGE, "N = 2, but the number of images is 1"),
        (LOGITS, "nowhere.jpg", "no image file"),
    ],
)
def test_invalid_logits_and_images_are_rejected(logits: np.ndarray, image: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        refine(logits, image)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"preset": "deeplap"}, UnknownNameError, "Did you mean 'deeplab'"),
        ({"preset": None}, OptionError, "preset must be a name or"),
        ({"iterations": -1}, OptionError, "iterations must be 0 or more"),
        ({"iterations": 2.5}, OptionError, "iterations must be a whole number"),
        ({"iterations": True}, OptionError, "iterations must be a whole number"),
        ({"preset": Parameters(1, 1, 1e-5, 0, 1)}, OptionError, "larger values of theta"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        refine(LOGITS, IMAGE, **options)


@pytest.mark.parametrize("field", ["w1", "theta_alpha", "theta_beta", "w2", "theta_gamma"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "5", None, True])
def test_invalid_parameters_are_rejected(field: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"{field} is a "):
        Parameters(**{"w1": 1, "theta_alpha": 1, "theta_beta": 1, "w2": 1, "theta_gamma": 1, field: value})


def test_it_does_not_import_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from segzoo.postprocess import crf\n"
        "crf.refine(np.eye(4).reshape(2, 2, 4), np.zeros((2, 4, 3), np.uint8))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_is_an_attribute_of_the_package() -> None:
    assert segzoo.postprocess.crf.refine is refine and "postprocess" in dir(segzoo)
