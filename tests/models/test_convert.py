"""convert: recognizing the library, missing and leftover tensors, and heads for other classes."""

from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from originals import close, shaken
from torch import Tensor

import segzoo
from segzoo.classes import CLASS_SETS, ClassSet
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
@pytest.mark.parametrize("wrapper", ["module.", "model.", "_orig_mod.", "net.", "model._orig_mod.", "module.model."])
def test_prefixes_of_wrappers_are_removed(wrapper: str, original, tensors: dict[str, Tensor]) -> None:
    ours = segzoo.convert({wrapper + name: tensor for name, tensor in tensors.items()}, encoder=ENCODER)
    image = torch.randn(1, 3, 64, 64)
    close(ours(image), original(image))


def test_a_lightning_modules_own_buffers_are_left_over(tensors: dict[str, Tensor]) -> None:
    wrapped = {f"net.{name}": tensor for name, tensor in tensors.items()} | {"criterion.weight": torch.ones(4)}
    with pytest.warns(UserWarning, match=r"left over: criterion\.weight\."):
        ours = segzoo.convert(wrapped, encoder=ENCODER)
    assert ours.spec.info["left_out"] == ["criterion.weight"]


def test_the_source_can_be_named(tensors: dict[str, Tensor]) -> None:
    assert segzoo.convert(tensors, "smp", encoder=ENCODER).spec.decoder == "unet"
    with pytest.raises(UnknownNameError, match="Did you mean 'torchvision'"):
        segzoo.convert(tensors, "torchvison")
    with pytest.raises(CheckpointError, match=r"weights of torchvision's fcn_resnet50 and fcn_resnet101, and these"):
        segzoo.convert(tensors, "torchvision")


def test_folders_are_smps_only(original, tmp_path: Path) -> None:
    original.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="not from torchvision"):
        segzoo.convert(tmp_path, "torchvision")


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({}, CheckpointError, "is empty"),
        ({"a": 1}, CheckpointError, "something else"),
        ({"a": torch.ones(1)}, CheckpointError, "begin with a"),
        (torch.nn.Linear(1, 1), OptionError, r"not Linear\. Pass model\.state_dict\(\)"),
        (None, OptionError, "a path or a state_dict"),
        ("missing.pth", CheckpointError, "No file missing"),
        ("", CheckpointError, "path of the weights is empty"),
        ("missing.caffemodel", CheckpointError, r"No file missing\.caffemodel\. Pass the path"),
    ],
)
def test_invalid_weights(weights: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        segzoo.convert(weights)


def test_segzoos_own_weights_need_no_conversion() -> None:
    with pytest.raises(CheckpointError, match=r"segzoo\.load"):
        segzoo.convert(segzoo.create("unet", "test_resnet").state_dict())


# Missing and leftover tensors


@pytest.fixture
def broken(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """One tensor is missing, one is left over, and one has another shape."""
    del tensors["decoder.blocks.0.conv2.0.weight"]
    tensors["loss.weight"] = torch.ones(4)
    tensors["segmentation_head.0.bias"] = torch.ones(7)
    return tensors


def test_faults_are_named(broken: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError) as caught:
        segzoo.convert(broken, encoder=ENCODER)
    message = str(caught.value)
    assert "Missing: decoder.blocks.0.1.0.weight, decoder.head.bias (segzoo's names)." in message
    assert "Left over: segmentation_head.0.bias (7,), expected (4,), loss.weight." in message


def test_not_strict_loads_what_fits_and_warns_of_the_rest(broken: dict[str, Tensor]) -> None:
    with pytest.warns(UserWarning, match=r"Missing: decoder\.blocks.* Left over: .*loss\.weight"):
        ours = segzoo.convert(broken, encoder=ENCODER, strict=False)
    assert ours.spec.info["random_weights"] == ["decoder.blocks.0.1.0.weight", "decoder.head.bias"]
    assert [text.partition(" ")[0] for text in ours.spec.info["left_out"]] == [
        "segmentation_head.0.bias",
        "loss.weight",
    ]
    assert torch.equal(ours.decoder.head.weight, broken["segmentation_head.0.weight"])
    assert ours.decoder.blocks[0][1][0].weight.std() > 0


def test_not_strict_raises_if_nothing_fits(tensors: dict[str, Tensor]) -> None:
    nothing = {name: torch.zeros(9, 9, 9, 9) for name in tensors}
    with pytest.raises(CheckpointError, match="not those of"):
        segzoo.convert(nothing, encoder=ENCODER, strict=False)


@pytest.mark.parametrize("odd", [torch.ones(4, dtype=torch.complex64), torch.ones(4).to_sparse(), torch.ones(4).int()])
def test_tensors_of_other_types_are_left_over(odd: Tensor, tensors: dict[str, Tensor]) -> None:
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
        ours.decoder.head.bias.add_(1)
    assert not torch.equal(ours.decoder.head.bias, tensors["segmentation_head.0.bias"])


# Classes


def test_classes_are_given_or_generic(tensors: dict[str, Tensor]) -> None:
    custom = ClassSet(("a", "b", "c", "d"), ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)))
    assert segzoo.convert(tensors, encoder=ENCODER).classes == ClassSet.generic(4)
    assert segzoo.convert(tensors, encoder=ENCODER, classes=custom).classes == custom
    with pytest.raises(OptionError, match=r"for 4 classes, and the class set names 11\. num_classes=11"):
        segzoo.convert(tensors, encoder=ENCODER, classes="camvid")
    with pytest.raises(UnknownNameError, match="camvid"):
        segzoo.convert(tensors, encoder=ENCODER, classes="camvit")


def test_another_number_of_classes_gets_a_new_head(tensors: dict[str, Tensor]) -> None:
    ours = segzoo.convert(tensors, encoder=ENCODER, num_classes=11, classes="camvid")
    assert ours.classes == CLASS_SETS["camvid"]
    assert ours.decoder.head.weight.shape[0] == 11
    assert torch.equal(ours.decoder.blocks[4][1][0].weight, tensors["decoder.blocks.4.conv2.0.weight"])
    assert ours.spec.info["started_from"]["num_classes"] == 4
