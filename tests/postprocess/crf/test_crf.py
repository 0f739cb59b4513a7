"""`segzoo.postprocess.crf.refine`, against mean field written out, and on labellings that it has to improve."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from all_pairs import appearance, normalised, positions
from PIL import Image

import segzoo
from segzoo.errors import ImageError, OptionError, UnknownNameError
from segzoo.metrics import ConfusionMatrix
from segzoo.postprocess.crf import PRESETS, Parameters, logits_from_labels, mean_field, refine

MILD = Parameters(3, 20, 13, 2, 2)


def scores(classes: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(classes, height, width)).astype(np.float32)


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three areas of their own colours, with sensor noise: the image, and its labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:60, :80]
    labels = np.where((y - 30) ** 2 + (x - 35) ** 2 < 18**2, 1, np.where(x + y > 95, 2, 0)).astype(np.uint8)
    colours = np.array([[60, 110, 160], [200, 60, 50], [90, 160, 60]])[labels]
    return np.clip(colours + rng.normal(0, 6, colours.shape), 0, 255).astype(np.uint8), labels


def written_out(logits: np.ndarray, kernels: list[tuple[float, np.ndarray]], iterations: int) -> np.ndarray:
    """Algorithm 1 with a compatibility matrix, over all pairs; logits (C, pixels)."""
    potts = 1 - np.eye(len(logits))
    unary = -np.log(np.exp(logits) / np.exp(logits).sum(0))
    q = np.exp(-unary)
    for _ in range(iterations):
        energy = unary + sum(weight * potts @ (q @ kernel) for weight, kernel in kernels)
        q = np.exp(-energy)
        q /= q.sum(0)
    return q


def test_mean_field_is_algorithm_1(photograph: np.ndarray) -> None:
    image, logits = photograph[100:112, 200:215], scores(5, 12, 15)
    matrices = [(4.0, appearance(image, 20, 13)), (3.0, normalised(positions(12, 15, 3)))]
    kernels = [
        (weight, lambda q, matrix=matrix: (matrix @ q.reshape(180, 5)).reshape(q.shape).astype(np.float32))
        for weight, matrix in matrices
    ]
    wanted = written_out(logits.reshape(5, -1).astype(np.float64), matrices, 10)
    found = mean_field(logits.transpose(1, 2, 0), kernels, 10, lambda: None)
    np.testing.assert_allclose(found.reshape(180, 5).T, wanted, atol=1e-5)


def test_the_smoothness_kernel_alone_is_exact() -> None:
    logits = scores(4, 20, 30)
    found = refine(logits, pixels(20, 30), Parameters(0, 1, 1, 3, 3)).probabilities
    wanted = written_out(logits.reshape(4, -1).astype(np.float64), [(3.0, normalised(positions(20, 30, 3)))], 10)
    np.testing.assert_allclose(found.reshape(4, -1), wanted, atol=1e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_labels_are_those_of_all_pairs(photograph: np.ndarray, preset: str) -> None:
    """But for one pixel in a hundred, ten iterations of the lattice's error included."""
    parameters, image = PRESETS[preset], photograph[150:190, 200:250]
    rng = np.random.default_rng(0)
    given = np.where(image.mean(2) > 110, 1, 0) + np.where(image[..., 2] > 180, 1, 0)
    given = np.where(rng.random(given.shape) < 0.25, rng.integers(0, 3, given.shape), given)
    logits = logits_from_labels(given, 3, confidence=0.6)
    kernels = [
        (parameters.w1, appearance(image, parameters.theta_alpha, parameters.theta_beta)),
        (parameters.w2, normalised(positions(40, 50, parameters.theta_gamma))),
    ]
    wanted = written_out(logits.reshape(3, -1).astype(np.float64), kernels, 10).argmax(0).reshape(40, 50)
    labels = refine(logits, image, preset).labels
    assert (labels != given).mean() > 0.1
    assert (labels == wanted).mean() > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_torch_and_numpy_give_the_same(dtype: torch.dtype) -> None:
    logits = torch.tensor(scores(3, 18, 23), dtype=dtype, requires_grad=True)
    image = pixels(18, 23)
    ours, theirs = refine(logits, image, MILD), refine(logits.detach().float().numpy(), image, MILD)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-5)
    assert type(ours.labels) is type(ours.probabilities) is np.ndarray


def test_a_batch_is_its_images_one_by_one(tmp_path: Path) -> None:
    logits = np.stack([scores(3, 14, 11, seed) for seed in (1, 2)])
    images = np.stack([pixels(14, 11, seed) for seed in (1, 2)])
    together = refine(logits, images, MILD)
    assert together.labels.shape == (2, 14, 11) and together.probabilities.shape == (2, 3, 14, 11)
    Image.fromarray(images[1]).save(tmp_path / "second.png")
    for number, image in enumerate([Image.fromarray(images[0]), tmp_path / "second.png"]):
        alone = refine(logits[number], image, MILD)
        np.testing.assert_array_equal(together.labels[number], alone.labels)
        np.testing.assert_array_equal(together.probabilities[number], alone.probabilities)


@pytest.mark.parametrize(("classes", "dtype"), [(2, np.uint8), (257, np.int32)])
def test_labels_are_the_likeliest_classes(classes: int, dtype: type) -> None:
    labels, probabilities = refine(scores(classes, 9, 7), pixels(9, 7), MILD)
    assert labels.dtype == dtype and probabilities.dtype == np.float32
    np.testing.assert_array_equal(labels, probabilities.argmax(0))
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"preset": Parameters(0, 1, 1, 0, 1)}])
def test_without_messages_it_is_the_softmax(options: dict[str, Any]) -> None:
    logits = scores(5, 6, 8)
    wanted = torch.from_numpy(logits).softmax(0)
    np.testing.assert_allclose(refine(logits, pixels(6, 8), **options).probabilities, wanted, atol=1e-6)


def test_logits_that_say_nothing_stay_so() -> None:
    np.testing.assert_allclose(refine(np.zeros((4, 20, 20)), pixels(20, 20)).probabilities, 0.25, atol=1e-5)


def test_a_number_added_to_all_classes_changes_nothing() -> None:
    logits, image = scores(3, 16, 16), pixels(16, 16)
    shifted = refine(logits + 50 * scores(1, 16, 16, 3), image, MILD).probabilities
    np.testing.assert_allclose(shifted, refine(logits, image, MILD).probabilities, atol=1e-3)


def test_a_class_that_is_ruled_out_stays_out() -> None:
    logits = scores(3, 16, 16)
    logits[1, :8] = -np.inf
    labels, probabilities = refine(logits, pixels(16, 16), MILD)
    assert (probabilities[1, :8] == 0).all() and np.isfinite(probabilities).all() and (labels[:8] != 1).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_noisy_labelling_of_a_scene_is_improved(preset: str) -> None:
    image, truth = scene()
    rng = np.random.default_rng(1)
    noisy = np.where(rng.random(truth.shape) < 0.3, rng.integers(0, 3, truth.shape), truth)
    assert (noisy == truth).mean() < 0.85
    assert (refine(logits_from_labels(noisy, 3), image, preset).labels == truth).mean() > 0.99


def test_a_blurred_border_goes_back_to_the_edge_of_the_image() -> None:
    """What it is for in DeepLab: scores of one in eight pixels."""
    image, truth = scene()
    coarse = torch.tensor(truth[4::8, 4::8].astype(np.int64))
    small = torch.nn.functional.one_hot(coarse, 3).permute(2, 0, 1)[None].float()
    logits = 4 * torch.nn.functional.interpolate(small, truth.shape, mode="bilinear")[0]
    before = (logits.argmax(0).numpy() == truth).mean()
    after = (refine(logits, image).labels == truth).mean()
    assert before < 0.95 and after > 0.99


def test_camvid_is_improved(camvid: Path) -> None:
    """Labels of one in eight pixels, one in seven of them wrong; 11 classes, on two images of val."""
    before, after = ConfusionMatrix(11, ignored=11), ConfusionMatrix(11, ignored=11)
    rng = np.random.default_rng(0)
    for path in sorted((camvid / "val" / "images").glob("*.jpg"))[::60]:
        image = np.asarray(Image.open(path))[::2, ::2]
        truth = np.asarray(Image.open(camvid / "val" / "masks" / f"{path.stem}.png"))[::2, ::2]
        coarse = truth[2::4, 2::4]
        coarse = np.where(rng.random(coarse.shape) < 0.15, rng.integers(0, 11, coarse.shape), coarse)
        noisy = np.where(coarse == 11, 0, coarse).repeat(4, 0).repeat(4, 1)
        before.update(noisy, truth)
        logits = logits_from_labels(noisy, 11, confidence=0.5)
        after.update(refine(logits, image, iterations=5).labels, truth)
    assert after.pixel_accuracy > before.pixel_accuracy + 0.05
    assert after.mean_iu > before.mean_iu + 0.1


def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    refine(
        np.stack([scores(2, 8, 8)] * 2),
        [pixels(8, 8)] * 2,
        iterations=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 8) for done in range(1, 9)]


def test_labels_become_logits() -> None:
    labels = np.array([[0, 2], [255, 1]], np.uint8)
    probabilities = np.exp(logits_from_labels(labels, 3, confidence=0.8, ignored=255))
    np.testing.assert_allclose(probabilities[:, 0, 0], [0.8, 0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(probabilities[:, 0, 1], [0.1, 0.1, 0.8], rtol=1e-5)
    np.testing.assert_allclose(probabilities[:, 1, 0], 1 / 3, rtol=1e-5)
    batch = logits_from_labels(torch.tensor(labels[None].astype(np.int64)), 3, confidence=0.8, ignored=255)
    np.testing.assert_allclose(np.exp(batch[0]), probabilities, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        (np.zeros((2, 2)), {}, ImageError, "Labels are integers"),
        (np.zeros(4, np.uint8), {}, ImageError, "Labels are integers"),
        (np.full((2, 2), 9), {}, ImageError, r"hold the id 9; the classes are 0-2.*ignored="),
        (np.zeros((2, 2), np.uint8), {"num_classes": 1}, OptionError, "num_classes is 2 or more"),
        (np.zeros((2, 2), np.uint8), {"num_classes": "3"}, OptionError, "num_classes is a whole number, not '3'"),
        (np.zeros((2, 2), np.uint8), {"num_classes": 3.0}, OptionError, "num_classes is a whole number"),
        (np.zeros((2, 2), np.uint8), {"num_classes": True}, OptionError, "num_classes is a whole number"),
        (np.zeros((2, 2), np.uint8), {"confidence": "0.5"}, OptionError, "confidence lies between .* not '0.5'"),
        (np.zeros((2, 2), np.uint8), {"confidence": 1.0}, OptionError, "confidence lies between"),
        (np.zeros((2, 2), np.uint8), {"confidence": 0.3}, OptionError, "confidence lies between"),
        (np.zeros((2, 2), np.uint8), {"ignored": 1}, OptionError, "ignored id 1 is a class"),
    ],
)
def test_labels_that_cannot_become_logits_are_refused(
    labels: np.ndarray, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        logits_from_labels(labels, **{"num_classes": 3, **options})


GOOD = scores(3, 8, 9)
IMAGE = pixels(8, 9)


def with_value(value: float) -> np.ndarray:
    logits = GOOD.copy()
    logits[:, 2, 3] = value
    return logits


@pytest.mark.parametrize(
    ("logits", "image", "message"),
    [
        (GOOD[0], IMAGE, r"Logits are floats \(C, H, W\)"),
        (GOOD[0].astype(np.uint8), IMAGE, "logits_from_labels"),
        (GOOD.astype(np.int64), IMAGE, "Logits are floats"),
        (GOOD[:, :0], IMAGE, "with pixels"),
        (GOOD[:1], IMAGE, "2 classes or more"),
        (with_value(np.nan), IMAGE, "1 of 72 pixels are NaN"),
        (with_value(np.inf), IMAGE, "1 of 72 pixels"),
        (with_value(-np.inf), IMAGE, "1 of 72 pixels"),
        (np.full((4, 8, 9), 0.25), IMAGE, "These are probabilities"),
        (GOOD, IMAGE[:7], r"logits are 8 x 9 and the image is 7 x 9.*Resize the logits"),
        (GOOD, IMAGE.transpose(2, 0, 1), "channels first"),
        (GOOD, IMAGE / 255, "Floats have no fixed range"),
        (GOOD, [IMAGE], "several images"),
        (GOOD, torch.from_numpy(IMAGE)[None], "several images"),
        (GOOD[None], [IMAGE, IMAGE], "those of 1 images.* images are 2"),
        (np.stack([GOOD, GOOD]), IMAGE, "those of 2 images.* images are 1"),
        (GOOD, "nowhere.jpg", "no image file"),
    ],
)
def test_what_does_not_fit_is_refused(logits: np.ndarray, image: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        refine(logits, image)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"preset": "deeplap"}, UnknownNameError, "Did you mean 'deeplab'"),
        ({"preset": None}, OptionError, "A preset is a name or"),
        ({"iterations": -1}, OptionError, "iterations is 0 or more"),
        ({"iterations": 2.5}, OptionError, "iterations is a whole number"),
        ({"iterations": True}, OptionError, "iterations is a whole number"),
        ({"preset": Parameters(1, 1, 1e-5, 0, 1)}, OptionError, "larger values of theta"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        refine(GOOD, IMAGE, **options)


@pytest.mark.parametrize("field", ["w1", "theta_alpha", "theta_beta", "w2", "theta_gamma"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "5", None, True])
def test_parameters_have_ranges(field: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"{field} is a "):
        Parameters(**{"w1": 1, "theta_alpha": 1, "theta_beta": 1, "w2": 1, "theta_gamma": 1, field: value})


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from segzoo.postprocess import crf\n"
        "crf.refine(np.eye(4).reshape(2, 2, 4), np.zeros((2, 4, 3), np.uint8))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_stands_in_the_package() -> None:
    assert segzoo.postprocess.crf.refine is refine and "postprocess" in dir(segzoo)
