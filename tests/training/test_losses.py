"""Losses: equal to a reference, independent of ignored pixels, never NaN."""

from typing import Any

import pytest
import segmentation_models_pytorch.losses as smp
import torch
import torch.nn.functional as F
from torch import Tensor

import segzoo
from segzoo.errors import OptionError, UnknownNameError
from segzoo.training.losses import LOSSES, CrossEntropy, Dice, Focal, Jaccard, Loss, Lovasz, create_loss

IGNORE_INDEX = 255
CLASSES = 5
PRESENT = [0, 1, 3]
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.1])

EVERY = pytest.mark.parametrize("loss_class", LOSSES.values(), ids=LOSSES.keys())


def logits_and_target(seed: int = 0, classes: list[int] | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, CLASSES, 7, 9, generator=generator)
    drawn = torch.tensor(classes or range(CLASSES))
    target = drawn[torch.randint(len(drawn), (3, 7, 9), generator=generator)]
    return logits.requires_grad_(), torch.where(torch.rand(3, 7, 9, generator=generator) < 0.3, IGNORE_INDEX, target)


def assert_same_with_gradients(loss: Loss, reference: Any, logits: Tensor, target: Tensor) -> None:
    actual, expected = (logits.detach().clone().requires_grad_() for _ in range(2))
    value, expected_value = loss(actual, target), reference(expected, target)
    value.backward()
    expected_value.backward()
    torch.testing.assert_close(value, expected_value, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(actual.grad, expected.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("classes", [None, PRESENT], ids=["all classes", "some classes"])
@pytest.mark.parametrize(
    ("loss", "smp_loss", "options"),
    [
        (Dice(IGNORE_INDEX), smp.DiceLoss, {}),
        (Dice(IGNORE_INDEX, smooth=3.0), smp.DiceLoss, {"smooth": 1.5}),  # smp adds it to half of the sums
        (Jaccard(IGNORE_INDEX), smp.JaccardLoss, {}),
        (Jaccard(IGNORE_INDEX, smooth=3.0), smp.JaccardLoss, {"smooth": 3.0}),
    ],
)
def test_dice_and_jaccard_match_smp(
    loss: Loss, smp_loss: Any, options: dict[str, float], classes: list[int] | None
) -> None:
    # smp divides by the number of given classes, not of those that occur.
    reference = smp_loss("multiclass", classes=classes, ignore_index=IGNORE_INDEX, **options)
    assert_same_with_gradients(loss, reference, *logits_and_target(classes=classes))


@pytest.mark.parametrize("classes", [None, PRESENT], ids=["all classes", "some classes"])
def test_lovasz_matches_smp(classes: list[int] | None) -> None:
    reference = smp.LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)
    assert_same_with_gradients(Lovasz(IGNORE_INDEX), reference, *logits_and_target(classes=classes))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_cross_entropy_matches_torch(weights: Tensor | None, smoothing: float) -> None:
    reference = torch.nn.CrossEntropyLoss(weights, ignore_index=IGNORE_INDEX, label_smoothing=smoothing)
    assert_same_with_gradients(
        CrossEntropy(IGNORE_INDEX, weights=weights, smoothing=smoothing), reference, *logits_and_target()
    )


def test_cross_entropy_divides_by_pixels_as_segnet_does() -> None:
    def by_pixels(logits: Tensor, target: Tensor) -> Tensor:
        valid = target != IGNORE_INDEX
        chosen = logits.log_softmax(1).permute(0, 2, 3, 1)[valid].gather(1, target[valid][:, None])[:, 0]
        return -(WEIGHTS[target[valid]] * chosen).sum() / valid.sum()

    loss = CrossEntropy(IGNORE_INDEX, weights=WEIGHTS, normalize="pixels")
    assert_same_with_gradients(loss, by_pixels, *logits_and_target())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_focal_matches_the_paper(weights: Tensor | None, gamma: float) -> None:
    def formula(logits: Tensor, target: Tensor) -> Tensor:
        valid = target != IGNORE_INDEX
        p = logits.softmax(1).permute(0, 2, 3, 1)[valid].gather(1, target[valid][:, None])[:, 0]
        alpha = 1 if weights is None else weights[target[valid]]
        return (-alpha * (1 - p) ** gamma * p.log()).mean()

    assert_same_with_gradients(Focal(IGNORE_INDEX, gamma=gamma, weights=weights), formula, *logits_and_target())


@EVERY
def test_a_batch_of_ignored_pixels_has_loss_0(loss_class: type[Loss]) -> None:
    logits, target = logits_and_target()
    loss = loss_class(IGNORE_INDEX)(logits, torch.full_like(target, IGNORE_INDEX))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and (logits.grad == 0).all()


@EVERY
def test_logits_of_ignored_pixels_do_not_matter(loss_class: type[Loss]) -> None:
    logits, target = logits_and_target()
    other = torch.where(
        (target == IGNORE_INDEX)[:, None], torch.randn_like(logits) * 50, logits.detach()
    ).requires_grad_()
    loss, again = loss_class(IGNORE_INDEX)(logits, target), loss_class(IGNORE_INDEX)(other, target)
    again.backward()
    torch.testing.assert_close(loss, again)
    assert other.grad is not None and (other.grad.permute(0, 2, 3, 1)[target == IGNORE_INDEX] == 0).all()


@EVERY
@pytest.mark.parametrize("size", [1e-4, 1e4])
def test_logits_of_any_size_give_finite_gradients(loss_class: type[Loss], size: float) -> None:
    logits, target = logits_and_target()
    scaled = (logits.detach() * size).requires_grad_()
    loss = loss_class(IGNORE_INDEX)(scaled, target)
    loss.backward()
    assert loss.isfinite() and loss > 0
    assert scaled.grad is not None and scaled.grad.isfinite().all()


@EVERY
def test_a_correct_prediction_has_the_lowest_loss(loss_class: type[Loss]) -> None:
    _, target = logits_and_target()
    correct = F.one_hot(torch.where(target == IGNORE_INDEX, 0, target), CLASSES).permute(0, 3, 1, 2).float()
    best, wrong = loss_class(IGNORE_INDEX)(100 * correct, target), loss_class(IGNORE_INDEX)(-100 * correct, target)
    assert best.item() == pytest.approx(0, abs=1e-6)
    assert wrong > 0.5


@EVERY
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_half_precision_logits_and_small_id_types_are_accepted(loss_class: type[Loss], dtype: torch.dtype) -> None:
    logits, target = logits_and_target()
    half = logits.detach().bfloat16()
    loss = loss_class(IGNORE_INDEX)(half, target.to(dtype))
    assert loss.dtype == torch.float32
    assert loss == loss_class(IGNORE_INDEX)(half.float(), target)


def test_pixel_weights_of_two_count_a_pixel_twice() -> None:
    logits, target = logits_and_target()
    twice = torch.ones(target.shape)
    twice[0] = 2
    doubled = (torch.cat((logits, logits[:1])), torch.cat((target, target[:1])))
    for loss in (CrossEntropy(IGNORE_INDEX, weights=WEIGHTS), Focal(IGNORE_INDEX)):
        torch.testing.assert_close(loss(logits, target, twice), loss(*doubled))


def test_a_sum_is_the_sum_of_its_terms() -> None:
    logits, target = logits_and_target()
    options = {"ce": {"weights": WEIGHTS.tolist(), "normalize": "pixels"}}
    loss = create_loss("ce + 0.5*dice+2*lovasz", IGNORE_INDEX, options)
    terms = (CrossEntropy(IGNORE_INDEX, weights=WEIGHTS, normalize="pixels"), Dice(IGNORE_INDEX), Lovasz(IGNORE_INDEX))
    ce, dice, lovasz = (term(logits, target) for term in terms)
    torch.testing.assert_close(loss(logits, target), ce + 0.5 * dice + 2 * lovasz)


def test_an_auxiliary_head_counts_its_weight() -> None:
    logits, target = logits_and_target(0)
    second, _ = logits_and_target(1)
    loss = create_loss("ce+dice", IGNORE_INDEX)
    torch.testing.assert_close(
        loss.with_auxiliary(logits, second, target, 0.3), loss(logits, target) + 0.3 * loss(second, target)
    )
    assert loss.with_auxiliary(logits, None, target) == loss(logits, target)


def test_a_model_with_an_auxiliary_head_trains_on_it() -> None:
    model = segzoo.create("fcn", "test_resnet", num_classes=CLASSES, auxiliary=True)
    logits, second = model(torch.randn(2, 3, 32, 32), auxiliary=True)
    create_loss("ce", IGNORE_INDEX).with_auxiliary(logits, second, torch.ones(2, 32, 32, dtype=torch.uint8)).backward()
    assert all(parameter.grad is not None for parameter in model.decoder.parameters())


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("dicee", {}, "Unknown loss 'dicee'. Did you mean 'dice'?"),
        ("ce+", {}, "Unknown loss ''"),
        ("x*ce", {}, "'x' in the loss 'x\\*ce' is not a number"),
        ("-1*ce", {}, "must be above 0, not -1"),
        ("ce+ce", {}, "contains 'ce' twice"),
        ("ce", {"dice": {}}, "Unknown loss with options 'dice'"),
        (
            "ce",
            {"ce": {"weight": [1]}},
            "Unknown option 'weight'. Did you mean 'weights'? The loss 'ce' takes weights, normalize, smoothing.",
        ),
        ("ce", {"ce": {"weights": [1, -1]}}, "Class weights must be one number of 0 or more"),
        ("ce", {"ce": {"normalize": "batch"}}, "normalized by 'weights' or 'pixels', not 'batch'"),
        ("ce", {"ce": {"smoothing": 1}}, "Label smoothing must be at least 0 and below 1"),
        ("focal", {"focal": {"gamma": -1}}, "gamma of the focal loss must be 0 or more"),
        ("dice", {"dice": {"smooth": -1}}, "smooth must be 0 or more"),
    ],
)
def test_an_invalid_loss_is_an_error(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((UnknownNameError, OptionError), match=message.replace("?", r"\?")):
        create_loss(text, IGNORE_INDEX, options)


@EVERY
def test_an_id_that_is_not_a_class_is_an_error(loss_class: type[Loss]) -> None:
    logits, target = logits_and_target()
    with pytest.raises(OptionError, match="The target has the id 255; the classes are 0-4, and 11 is ignored"):
        loss_class(11)(logits, target)


@pytest.mark.slow
def test_a_compiled_loss_is_equal() -> None:
    logits, target = logits_and_target()
    loss = create_loss("+".join(LOSSES), IGNORE_INDEX)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, target), loss(logits, target))


def test_shapes_must_match() -> None:
    logits, target = logits_and_target()
    with pytest.raises(OptionError, match=r"logits \(N, C, H, W\) and ids"):
        Dice(IGNORE_INDEX)(logits, target[:, :3])
    with pytest.raises(OptionError, match="2 class weights for 5 classes"):
        CrossEntropy(IGNORE_INDEX, weights=[1.0, 2.0])(logits, target)
