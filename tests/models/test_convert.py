"""convert: which library's it is, what is missing or left over, and heads for other classes."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from originals import close, shaken
from torch import Tensor

import segzoo
from segzoo.classes import LABEL_SETS, LabelSet
from segzoo.errors import CheckpointError, OptionError, UnknownNameError

ENCODER = "tu-test_resnet"


@pytest.fixture(scope="module")
def original() -> torch.nn.Module:
    torch.manual_seed(0)
    return shaken(smp.Unet(ENCODER, encoder_weights=None, classes=4))


@pytest.fixture
def tensors(original: torch.nn.Module) -> dict[str, Tensor]:
    return dict(original.state_dict())


@torch.inference_mode()
@pytest.mark.parametrize("wrapper", ["module.", "model.", "_orig_mod."])
def test_names_behind_a_wrapper_are_found(wrapper: str, original, tensors: dict[str, Tensor]) -> None:
    ours = segzoo.convert({wrapper + name: tensor for name, tensor in tensors.items()}, encoder=ENCODER)
    image = torch.randn(1, 3, 64, 64)
    close(ours(image), original(image))


def test_the_source_can_be_named(tensors: dict[str, Tensor]) -> None:
    assert segzoo.convert(tensors, "smp", encoder=ENCODER).config.decoder == "unet"
    with pytest.raises(UnknownNameError, match="Did you mean 'torchvision'"):
        segzoo.convert(tensors, "torchvison")
    with pytest.raises(CheckpointError, match=r"weights of torchvision's fcn_resnet50 and fcn_resnet101, and these"):
        segzoo.convert(tensors, "torchvision")


def test_a_folder_is_of_smp_alone(original, tmp_path: Path) -> None:
    original.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="not of torchvision"):
        segzoo.convert(tmp_path, "torchvision")


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({}, CheckpointError, "holds none"),
        ({"a": 1}, CheckpointError, "something else"),
        ({"a": torch.ones(1)}, CheckpointError, "begin with a"),
        (torch.nn.Linear(1, 1), OptionError, r"not Linear; model\.state_dict\(\)"),
        (None, OptionError, "a path or a state_dict"),
        ("absent.pth", CheckpointError, "No file absent"),
        ("", CheckpointError, "path of the weights is empty"),
        ("absent.caffemodel", CheckpointError, r"No file absent\.caffemodel\. Pass the path"),
    ],
)
def test_what_is_no_checkpoint(weights: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        segzoo.convert(weights)


def test_segzoos_own_weights_need_no_conversion() -> None:
    with pytest.raises(CheckpointError, match=r"segzoo\.load"):
        segzoo.convert(segzoo.create("unet", "test_resnet").state_dict())


# What is missing and what is left over.


@pytest.fixture
def broken(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """One tensor too few, one too many, one of another shape."""
    del tensors["decoder.blocks.0.conv2.0.weight"]
    tensors["loss.weight"] = torch.ones(4)
    tensors["segmentation_head.0.bias"] = torch.ones(7)
    return tensors


def test_faults_are_named(broken: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError) as caught:
        segzoo.convert(broken, encoder=ENCODER)
    message = str(caught.value)
    assert "Missing: decoder.blocks.0.1.0.weight, decoder.score.bias (segzoo's names)." in message
    assert "Left over: segmentation_head.0.bias (7,), where (4,) is wanted, loss.weight." in message


def test_not_strict_loads_what_fits_and_says_what_it_skipped(broken: dict[str, Tensor]) -> None:
    with pytest.warns(UserWarning, match=r"Missing: decoder\.blocks.* Left over: .*loss\.weight"):
        ours = segzoo.convert(broken, encoder=ENCODER, strict=False)
    assert ours.config.info["random_weights"] == ["decoder.blocks.0.1.0.weight", "decoder.score.bias"]
    assert [text.partition(" ")[0] for text in ours.config.info["left_out"]] == [
        "segmentation_head.0.bias",
        "loss.weight",
    ]
    assert torch.equal(ours.decoder.score.weight, broken["segmentation_head.0.weight"])
    assert ours.decoder.blocks[0][1][0].weight.std() > 0


def test_where_nothing_fits_not_strict_is_an_error_too(tensors: dict[str, Tensor]) -> None:
    nothing = {name: torch.zeros(9, 9, 9, 9) for name in tensors}
    with pytest.raises(CheckpointError, match="not those of"):
        segzoo.convert(nothing, encoder=ENCODER, strict=False)


@pytest.mark.parametrize("odd", [torch.ones(4, dtype=torch.complex64), torch.ones(4).to_sparse(), torch.ones(4).int()])
def test_tensors_that_are_no_weights_are_left_over(odd: Tensor, tensors: dict[str, Tensor]) -> None:
    tensors["segmentation_head.0.bias"] = odd
    with pytest.raises(CheckpointError, match=r"Left over: segmentation_head\.0\.bias, which holds"):
        segzoo.convert(tensors, encoder=ENCODER)


def test_nothing_is_allocated_for_weights_that_do_not_fit(tensors: dict[str, Tensor]) -> None:
    before = torch.get_rng_state()
    with pytest.raises(CheckpointError, match=r"Missing: .* and \d+ more \(segzoo's names\)"):
        segzoo.convert(tensors, encoder="tu-resnet18")
    assert torch.equal(torch.get_rng_state(), before)
    segzoo.convert(tensors, encoder=ENCODER)
    assert not torch.equal(torch.get_rng_state(), before)  # so the check above can fail


def test_counters_may_be_missing(tensors: dict[str, Tensor]) -> None:
    old = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(tensors)
    segzoo.convert(old, encoder=ENCODER)


def test_half_precision_becomes_single(tensors: dict[str, Tensor]) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    assert {p.dtype for p in segzoo.convert(half, encoder=ENCODER).parameters()} == {torch.float32}


def test_the_state_dict_is_copied(tensors: dict[str, Tensor]) -> None:
    ours = segzoo.convert(tensors, encoder=ENCODER)
    with torch.no_grad():
        ours.decoder.score.bias.add_(1)
    assert not torch.equal(ours.decoder.score.bias, tensors["segmentation_head.0.bias"])


# Classes and labels.


def test_labels_are_given_by_name_or_made(tensors: dict[str, Tensor]) -> None:
    own = LabelSet(("a", "b", "c", "d"), ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)))
    assert segzoo.convert(tensors, encoder=ENCODER).labels == LabelSet.generic(4)
    assert segzoo.convert(tensors, encoder=ENCODER, labels=own).labels == own
    with pytest.raises(OptionError, match=r"for 4 classes, and the label set names 11\. num_classes=11"):
        segzoo.convert(tensors, encoder=ENCODER, labels="camvid")
    with pytest.raises(UnknownNameError, match="camvid"):
        segzoo.convert(tensors, encoder=ENCODER, labels="camvit")


def test_another_number_of_classes_gets_a_new_head(tensors: dict[str, Tensor]) -> None:
    ours = segzoo.convert(tensors, encoder=ENCODER, num_classes=11, labels="camvid")
    assert ours.labels == LABEL_SETS["camvid"]
    assert ours.decoder.score.weight.shape[0] == 11
    assert torch.equal(ours.decoder.blocks[4][1][0].weight, tensors["decoder.blocks.4.conv2.0.weight"])
    assert ours.config.info["started_from"]["num_classes"] == 4
