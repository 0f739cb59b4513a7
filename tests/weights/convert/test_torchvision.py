"""torchvision's FCN compared with its conversion, and checkpoints of other networks."""

from pathlib import Path

import pytest
import torch
from originals import close, shaken
from torchvision.models import segmentation

import segzoo
from segzoo.classes import CLASS_SETS
from segzoo.errors import CheckpointError


def original(auxiliary: bool = False, classes: int = 21, name: str = "fcn_resnet50") -> torch.nn.Module:
    build = getattr(segmentation, name)
    return shaken(build(weights=None, weights_backbone=None, num_classes=classes, aux_loss=auxiliary))


@torch.inference_mode()
@pytest.mark.parametrize("auxiliary", [False, True])
def test_logits_equal_torchvisions(auxiliary: bool, tmp_path: Path) -> None:
    theirs = original(auxiliary)
    torch.save(theirs.state_dict(), tmp_path / "fcn.pth")
    ours = segzoo.convert(tmp_path / "fcn.pth")
    assert (ours.spec.decoder, ours.spec.encoder, ours.spec.output_stride) == ("fcn", "resnet50", 8)
    assert not ours.training
    image = torch.randn(1, 3, 64, 96)
    expected = theirs(image)
    logits, auxiliary_logits = ours(image, auxiliary=True)
    close(logits, expected["out"])
    assert (auxiliary_logits is not None) == auxiliary
    if auxiliary:
        close(auxiliary_logits, expected["aux"])


@torch.inference_mode()
def test_logits_equal_torchvisions_at_a_size_not_divisible_by_32() -> None:
    theirs = original(name="fcn_resnet101")
    ours = segzoo.convert(theirs.state_dict())
    image = torch.randn(1, 3, 120, 72)  # multiples of 8 but not of 32, like 360 x 480
    close(ours(image), theirs(image)["out"])


@torch.inference_mode()
def test_a_converted_model_saves_and_loads(tmp_path: Path) -> None:
    ours = segzoo.convert(original().state_dict())
    loaded = segzoo.load(segzoo.save(ours, tmp_path / "fcn"))
    image = torch.randn(1, 3, 33, 47)
    assert torch.equal(loaded(image), ours(image))
    assert loaded.spec.info == {"converted_from": "torchvision fcn_resnet50"}


def test_21_classes_are_vocs_with_imagenets_normalization() -> None:
    ours = segzoo.convert(original().state_dict(), "torchvision")
    assert ours.classes == CLASS_SETS["voc"]
    assert (ours.spec.mean, ours.spec.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    for buffer, values in ((ours.mean, ours.spec.mean), (ours.std, ours.spec.std)):
        assert torch.equal(buffer.flatten(), torch.tensor(values))
    assert segzoo.convert(original(classes=3).state_dict()).classes.names == ("class 0", "class 1", "class 2")


def test_resnet101_is_distinguished_from_resnet50() -> None:
    tensors = original(name="fcn_resnet101").state_dict()
    assert segzoo.convert(tensors).spec.encoder == "resnet101"
    with pytest.raises(CheckpointError, match="backbone is resnet101, not resnet50"):
        segzoo.convert(tensors, encoder="resnet50")


def test_deeplab_is_not_fcn() -> None:
    theirs = segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None)
    with pytest.raises(
        CheckpointError, match=r"recognizes the weights of torchvision's fcn_resnet50.* begin with back"
    ):
        segzoo.convert(theirs.state_dict())


def test_another_backbone_is_rejected() -> None:
    tensors = original().state_dict()
    del tensors["backbone.layer3.5.conv1.weight"]
    with pytest.raises(CheckpointError, match="not one of torchvision's ResNets"):
        segzoo.convert(tensors)
