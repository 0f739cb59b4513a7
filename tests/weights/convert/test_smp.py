"""segmentation-models-pytorch's Unet compared with its conversion, and the models that are rejected."""

import json
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from originals import close, shaken

import segzoo
from segzoo.errors import CheckpointError, OptionError, PairingError, UnknownNameError

SMALL = "tu-test_resnet"


def original(encoder: str = SMALL, **options: Any) -> torch.nn.Module:
    return shaken(smp.Unet(encoder, **{"encoder_weights": None, "classes": 4, **options}))


SMP_ENCODERS = [
    ("resnet18", "resnet18"),
    ("resnet50", "resnet50"),
    ("resnext50_32x4d", "resnext50_32x4d"),
    ("vgg11", "vgg11"),
    ("vgg13_bn", "vgg13_bn"),
    ("mobilenet_v2", "mobilenetv2_100"),
]


@torch.inference_mode()
@pytest.mark.parametrize(("encoder", "timm_name"), SMP_ENCODERS, ids=[row[0] for row in SMP_ENCODERS])
def test_a_state_dict_with_smps_own_encoders(encoder: str, timm_name: str) -> None:
    theirs = original(encoder)
    ours = segzoo.convert(theirs.state_dict())
    assert (ours.spec.decoder, ours.spec.encoder, ours.spec.num_classes) == ("unet", timm_name, 4)
    assert not ours.training
    image = torch.randn(2, 3, 64, 96)
    close(ours(image), theirs(image))


@torch.inference_mode()
@pytest.mark.parametrize(
    "encoder", [SMALL, "tu-vgg11_bn", "tu-test_convnext", "tu-test_efficientnet", "tu-legacy_xception"]
)
def test_a_folder_with_timms_encoders(encoder: str, tmp_path: Path) -> None:
    theirs = original(encoder)
    theirs.save_pretrained(tmp_path)
    ours = segzoo.convert(tmp_path)
    assert ours.spec.encoder == encoder.removeprefix("tu-")
    image = torch.randn(1, 3, 96, 64)
    close(ours(image), theirs(image))


@torch.inference_mode()
@pytest.mark.parametrize(
    "options",
    [
        {"decoder_interpolation": "bilinear"},
        {"decoder_channels": (24, 24, 16, 8, 8)},
        {"in_channels": 1},
        {"in_channels": 5},
        {"activation": "softmax2d"},
        {"decoder_use_norm": True},
    ],
    ids=str,
)
def test_settings_that_the_unet_can_express(options: dict[str, Any], tmp_path: Path) -> None:
    theirs = original(**options)
    theirs.save_pretrained(tmp_path)
    ours = segzoo.convert(tmp_path)
    image = torch.randn(1, options.get("in_channels", 3), 64, 64)
    theirs.segmentation_head[2] = torch.nn.Identity()  # drops the activation, since segzoo's model returns logits
    close(ours(image), theirs(image))


@torch.inference_mode()
def test_one_class_becomes_two() -> None:
    theirs = original(classes=1)
    ours = segzoo.convert(theirs.state_dict(), encoder=SMALL)
    image = torch.randn(1, 3, 64, 64)
    logits = ours(image)
    assert torch.equal(logits[:, 0], torch.zeros(1, 64, 64))
    close(logits[:, 1:], theirs(image))
    close(logits.softmax(1)[:, 1:], theirs(image).sigmoid())


@torch.inference_mode()
def test_bilinear_interpolation_can_be_requested_for_a_state_dict() -> None:
    theirs = original(decoder_interpolation="bilinear")
    image = torch.randn(1, 3, 64, 64)
    ours = segzoo.convert(theirs.state_dict(), encoder=SMALL, upsample="bilinear")
    close(ours(image), theirs(image))
    nearest = segzoo.convert(theirs.state_dict(), encoder=SMALL)
    assert (nearest(image) - ours(image)).abs().max() > 1e-3
    with pytest.raises(OptionError, match="nearest"):
        segzoo.convert(theirs.state_dict(), encoder=SMALL, upsample="unpool")


@torch.inference_mode()
def test_a_converted_model_takes_any_size_and_saves(tmp_path: Path) -> None:
    ours = segzoo.convert(original().state_dict(), encoder=SMALL)
    loaded = segzoo.load(segzoo.save(ours, tmp_path / "unet"))
    image = torch.randn(1, 3, 33, 47)
    assert loaded(image).shape == (1, 4, 33, 47)
    assert torch.equal(loaded(image), ours(image))
    assert loaded.spec.info == {"converted_from": f"segmentation-models-pytorch Unet on {SMALL}"}


def test_a_folder_with_the_older_pytorch_model_bin(tmp_path: Path) -> None:
    theirs = original()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"No file .*model\.safetensors"):
        segzoo.convert(tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    assert segzoo.convert(tmp_path).spec.encoder == "test_resnet"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_attention_type": "scse"}, "scse"),
        ({"decoder_use_norm": "identity"}, "decoder_use_norm other than batchnorm"),
        ({"decoder_use_norm": {"type": "instancenorm", "affine": True}}, "decoder_use_norm other than batchnorm"),
        ({"encoder_depth": 4, "decoder_channels": (32, 16, 8, 8)}, "encoder_depth=4"),
        ({"aux_params": {"classes": 3}}, r"Left over: classification_head\.3\.weight, classification_head\.3\.bias\."),
    ],
    ids=str,
)
def test_a_model_that_the_unet_cannot_express_is_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        segzoo.convert(original(**options).state_dict(), encoder=SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_attention_type": "scse"}, "has a decoder_attention_type, which"),
        ({"decoder_use_norm": {"type": "batchnorm", "eps": 1e-3}}, "decoder_use_norm"),
        ({"decoder_use_batchnorm": "inplace"}, "decoder_use_batchnorm"),
        ({"decoder_interpolation": "bicubic"}, "decoder_interpolation"),
        ({"encoder_depth": 3}, "encoder_depth other than 5"),
        ({"activation": "clamp"}, "activation"),
        ({"drop_path_rate": 0.1, "more": 1}, r"unknown settings \(drop_path_rate, more\)"),
        ({"_model_class": "FPN"}, "describes a FPN"),
        ({"encoder_name": None}, "not written by segmentation-models-pytorch's save_pretrained"),
    ],
    ids=str,
)
def test_a_config_that_the_unet_cannot_express_is_explained(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    original().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=message):
        segzoo.convert(tmp_path)


@pytest.mark.parametrize("content", [None, "", "[]", "{", "[" * 100_000, "\udcff"], ids=ascii)
def test_an_unreadable_config(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        segzoo.convert(tmp_path)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "tu-../../secret", "tu-local-dir:/etc", "tu-hf-hub:somebody/something", ""]
)
def test_a_path_in_a_config_is_never_followed(name: str, tmp_path: Path) -> None:
    original().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"encoder_name": name, "encoder_weights": name}))
    with pytest.raises((UnknownNameError, CheckpointError), match=r"Unknown encoder|Pass its name"):
        segzoo.convert(tmp_path)


def test_timms_encoders_must_be_named() -> None:
    with pytest.raises(CheckpointError, match="encoder='tu-resnet34'"):
        segzoo.convert(original().state_dict())
    with pytest.raises(UnknownNameError, match="Did you mean"):
        segzoo.convert(original().state_dict(), encoder="tu-resnet3x")
    with pytest.raises(CheckpointError, match=r"Missing: .*Left over: "):
        segzoo.convert(original().state_dict(), encoder="tu-resnet18")


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (smp.Unet, {"encoder_name": "timm-efficientnet-b0"}, "The encoder is not one that segzoo reads"),
        (smp.Unet, {"encoder_name": "densenet121"}, "The encoder is not one that segzoo reads"),
        (smp.FPN, {"encoder_name": "resnet18"}, "recognizes the weights of"),
        (smp.UnetPlusPlus, {"encoder_name": "resnet18"}, "recognizes the weights of"),
    ],
)
@pytest.mark.filterwarnings("ignore:`timm-` encoders are deprecated")
def test_another_network_is_rejected(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        segzoo.convert(model(encoder_weights=None, **options).state_dict())


def test_the_named_encoder_must_be_the_checkpoints() -> None:
    tensors = original("resnet18").state_dict()
    with pytest.raises(CheckpointError, match="encoder is resnet18, not resnet50"):
        segzoo.convert(tensors, encoder="resnet50")
    assert segzoo.convert(tensors, encoder="resnet18").spec.encoder == "resnet18"


def test_an_encoder_that_drops_rows_is_rejected() -> None:
    with pytest.raises(PairingError, match="does not keep exactly 1/32"):
        segzoo.convert(original("tu-inception_v4").state_dict(), encoder="tu-inception_v4")
