"""Any size, batch and mode, for every decoder on every type of encoder; normalization; predict."""

import copy
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from segzoo import create
from segzoo.errors import ImageError, OptionError, PairingError
from segzoo.models.base import SegmentationModel
from segzoo.models.decoders import DECODERS

# They differ in rounding and first level: VGG (level 0, before its pools), ResNet, U-Net's own, ConvNeXt (level 2),
# Xception (no size is half of another), EfficientNet (signed maps), and one that is padded to windows.
ENCODERS = ["vgg11_bn", "test_resnet", "unet", "test_convnext", "xception", "test_efficientnet", "maxvit_pico_rw_256"]
SIZES = [(1, 1), (33, 47), (70, 97)]
LARGER = [(250, 333), (360, 480)]


def small(decoder: str, encoder: str, **options: object) -> SegmentationModel:
    """`create` with few channels in fc6 and fc7, whose number does not matter in these tests."""
    if decoder in ("fcn32s", "fcn16s", "fcn8s", "deconvnet"):
        options = {"fc_head": (3, 32), **options}
    return create(decoder, encoder=encoder, num_classes=5, **options)


def pairs() -> list[tuple[str, str]]:
    no_level_5 = {("fcn32s", "unet"), ("fcn16s", "unet"), ("fcn8s", "unet")}
    no_dilation = {("fcn", "maxvit_pico_rw_256"), ("deeplab_largefov", "maxvit_pico_rw_256")}
    every = [(d, e) for d in DECODERS for e in ENCODERS]
    return [pair for pair in every if pair not in no_level_5 | no_dilation]


@torch.inference_mode()
@pytest.mark.parametrize(("decoder", "encoder"), pairs())
def test_any_size(decoder: str, encoder: str) -> None:
    model = small(decoder, encoder).eval()
    for height, width in SIZES + LARGER if encoder == "test_resnet" else SIZES:
        logits = model(torch.randn(1, 3, height, width))
        assert logits.shape == (1, 5, height, width)
        assert logits.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("encoder", ["inception_v3", "inception_v4", "halonet26t"])
def test_any_size_with_encoders_that_have_a_minimum_size(encoder: str, mode: bool) -> None:
    """Shapes only: these encoders are large."""
    with torch.device("meta"):
        model = create("unet", encoder, 5, decoder_channels=8).train(mode)
        for height, width in [*SIZES, *LARGER]:
            assert model(torch.empty(1, 3, height, width)).shape == (1, 5, height, width)


@pytest.mark.parametrize(("decoder", "encoder"), pairs())
def test_training_reaches_every_parameter(decoder: str, encoder: str) -> None:
    model = small(decoder, encoder, **({"auxiliary": True} if decoder == "fcn" else {})).train()
    for module in model.modules():
        # timm starts a residual block's last scale at zero, and layer scale near zero, which stops the gradient.
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)
    for batch, height, width in ((1, 1, 1), (2, 70, 97)):
        model.zero_grad()
        logits, second = model(torch.randn(batch, 3, height, width), auxiliary=True)
        loss = (logits * torch.randn_like(logits)).sum()
        if second is not None:
            loss = loss + (second * torch.randn_like(second)).sum()
        loss.backward()
    unreached = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unreached == []


@pytest.mark.parametrize(("decoder", "encoder"), [(d, "test_resnet") for d in DECODERS] + [("segnet", "vgg11_bn")])
def test_bfloat16_autocast_trains(decoder: str, encoder: str) -> None:
    model = small(decoder, encoder).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randn(2, 3, 33, 47))
    logits.float().square().mean().backward()
    assert logits.shape == (2, 5, 33, 47)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [
        ("fcn8s", "vgg11_bn"),
        ("fcn", "test_resnet"),
        ("unet", "test_resnet"),
        ("segnet", "vgg11_bn"),
        ("deconvnet", "test_resnet"),
        ("deeplab_largefov", "test_efficientnet"),
    ],
)
def test_compiles_as_one_graph_for_changing_sizes(decoder: str, encoder: str) -> None:
    model = small(decoder, encoder).eval()
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for height, width in ((64, 96), (33, 47), (1, 1)):  # the second size makes it dynamic
        image = torch.randn(2, 3, height, width)
        torch.testing.assert_close(compiled(image), model(image), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_sizes_are_padded_with_zeros_to_multiples_and_cropped() -> None:
    model = small("unet", "test_resnet").eval()
    image = torch.randn(1, 3, 64, 96)
    assert torch.equal(model(image)[..., :50, :70], model(image)[..., :50, :70])
    cut = image.clone()
    cut[..., 50:, :] = 0
    cut[..., :, 70:] = 0
    assert torch.equal(model(image[..., :50, :70]), model(cut)[..., :50, :70])


@torch.inference_mode()
@pytest.mark.parametrize("name", ["fcn_resnet50", "fcn_resnet101"])
def test_torchvisions_logits(name: str) -> None:
    """With torchvision's random weights copied over, our logits equal torchvision's to 1e-5."""
    theirs = getattr(torchvision.models.segmentation, name)(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    ).eval()
    ours = create("fcn", encoder=name.removeprefix("fcn_"), num_classes=21, auxiliary=True).eval()
    prefixes = {
        "backbone.": "encoder.net.",
        "classifier.": "decoder.classifier.",
        "aux_classifier.": "decoder.aux_classifier.",
    }
    state = {}
    for key, value in theirs.state_dict().items():
        old = next(p for p in prefixes if key.startswith(p))
        state[prefixes[old] + key.removeprefix(old)] = value
    ours.load_state_dict(state, strict=True)
    image = torch.randn(2, 3, 64, 96)
    expected, (logits, second) = theirs(image), ours(image, auxiliary=True)
    torch.testing.assert_close(logits, expected["out"], atol=1e-5, rtol=0)
    torch.testing.assert_close(second, expected["aux"], atol=1e-5, rtol=0)


def test_auxiliary_logits_are_none_without_an_auxiliary_head() -> None:
    assert small("unet", "test_resnet")(torch.randn(2, 3, 8, 8), auxiliary=True)[1] is None


# normalize and predict


@torch.inference_mode()
def test_normalize_is_the_textbook_formula() -> None:
    model = small("unet", "test_resnet")
    images = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    expected = ((images / 255 - model.mean) / model.std).permute(0, 3, 1, 2)
    torch.testing.assert_close(model.normalize(images), expected, atol=1e-5, rtol=1e-5)


def test_predict_takes_paths_images_arrays_and_lists(photograph: np.ndarray, tmp_path: Path) -> None:
    model = small("unet", "test_resnet").train()
    Image.fromarray(photograph).save(tmp_path / "photo.png")
    crop = np.ascontiguousarray(photograph[:33, :47])
    expected = model.predict(photograph).mask
    assert expected.shape == photograph.shape[:2]
    assert expected.dtype == np.uint8 and expected.max() < 5
    assert model.training  # as before
    masks = model.predict([tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(photograph), crop])
    assert all(np.array_equal(mask, expected) for mask in masks[:3])
    assert masks[3].size == (33, 47)
    assert model.predict([]) == []


def test_predict_leaves_frozen_layers_frozen() -> None:
    model = small("unet", "test_resnet").train()
    model.encoder.eval()
    model.predict(np.zeros((20, 30, 3), np.uint8))
    assert model.training and model.decoder.training and not model.encoder.training


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 4, 32, 32), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8)]
)
def test_forward_rejects_images_that_are_not_normalized(image: torch.Tensor) -> None:
    with pytest.raises(ImageError, match=r"normalized floats \(N, 3, H, W\).*model\.normalize"):
        small("unet", "test_resnet")(image)


@pytest.mark.parametrize("images", [torch.rand(1, 8, 8, 3), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)])
def test_normalize_rejects_other_dtypes_and_layouts(images: torch.Tensor) -> None:
    with pytest.raises(ImageError, match="normalize takes uint8 images"):
        small("unet", "test_resnet").normalize(images)


@pytest.mark.parametrize("upsample", ["bilinear", "transposed"])
@pytest.mark.parametrize("encoder", ["vgg11", "test_resnet"])
def test_dilated_skip_classifiers_keep_their_resolution(encoder: str, upsample: str) -> None:
    model = small("fcn8s", encoder, output_stride=8, upsample=upsample).eval()
    sizes = []
    for up in model.decoder.ups:
        up.register_forward_hook(lambda _, inputs, out: sizes.append((inputs[0].shape[-1], out.shape[-1])))
    model(torch.randn(1, 3, 64, 64))
    assert sizes == [(8, 8), (8, 8)]


@pytest.mark.parametrize("convert", ["half", "bfloat16", "double"])
def test_mean_and_std_stay_float32(convert: str) -> None:
    model = small("unet", "test_resnet")
    mean, std = model.mean.clone(), model.std.clone()
    converted = getattr(model, convert)()
    assert converted is model
    assert next(model.parameters()).dtype == getattr(torch, convert)
    assert model.mean.dtype == model.std.dtype == torch.float32
    assert torch.equal(model.mean, mean) and torch.equal(model.std, std)  # not rounded on the way
    assert model.normalize(torch.zeros(1, 2, 2, 3, dtype=torch.uint8)).dtype == torch.float32


def test_mean_and_std_stay_float32_inside_another_module() -> None:
    model = small("unet", "test_resnet")
    mean = model.mean.clone()
    torch.nn.Sequential(model).to(torch.bfloat16)
    assert model.mean.dtype == torch.float32 and torch.equal(model.mean, mean)


def test_mean_and_std_follow_the_device() -> None:
    model = small("unet", "test_resnet")
    mean, std = model.mean.clone(), model.std.clone()
    model.to("meta")
    assert model.mean.is_meta and model.std.is_meta
    model.to_empty(device="cpu")
    assert torch.equal(model.mean, mean) and torch.equal(model.std, std)  # no empty memory: they come from the spec
    with torch.device("meta"):
        model = small("unet", "test_resnet")
    assert next(model.parameters()).is_meta
    assert torch.equal(model.mean, mean) and torch.equal(model.std, std)


def test_copies_have_their_own_mean_and_std() -> None:
    model = small("unet", "test_resnet")
    model.set_normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    duplicate = copy.deepcopy(model)
    assert torch.equal(duplicate.mean, model.mean) and torch.equal(duplicate.std, model.std)
    duplicate.set_normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    torch.testing.assert_close(model.mean, torch.tensor([0.1, 0.2, 0.3]))
    assert model.spec.mean == (0.1, 0.2, 0.3)


def test_mean_and_std_are_buffers_that_the_state_dict_lacks() -> None:
    model = small("unet", "test_resnet")
    assert {"mean", "std"} <= dict(model.named_buffers()).keys()
    assert not {"mean", "std"} & model.state_dict().keys()
    small("unet", "test_resnet").load_state_dict(model.state_dict(), strict=True)


def test_set_normalization_changes_the_spec_and_normalize() -> None:
    model = small("unet", "test_resnet").half()
    model.set_normalization([0.5, 0.25, 0.0], [0.5, 1.0, 2.0])
    assert (model.spec.mean, model.spec.std) == ((0.5, 0.25, 0.0), (0.5, 1.0, 2.0))
    assert model.mean.tolist() == [0.5, 0.25, 0.0] and model.std.tolist() == [0.5, 1.0, 2.0]
    white = torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(model.normalize(white).flatten(), torch.tensor([1.0, 0.75, 0.5]))
    model.set_normalization(np.float32([0.5, 0.25, 0.125]), torch.ones(3))
    json.dumps(model.spec.to_dict())
    on_meta = small("unet", "test_resnet").to("meta")
    on_meta.set_normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert on_meta.mean.is_meta


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5, 0.5), (0.5, 0.5, 0.5), "3 finite numbers each"),
        ((0.5, 0.5, 0.5), (0.5,), "3 finite numbers each"),
        ((0.5, 0.5, math.nan), (0.5, 0.5, 0.5), "3 finite numbers each"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, math.inf), "3 finite numbers each"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0), "std must be above 0"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, -1.0), "std must be above 0"),
        ((), (), "3 finite numbers each"),
    ],
)
def test_set_normalization_rejects_other_values(mean: tuple[float, ...], std: tuple[float, ...], message: str) -> None:
    model = small("unet", "test_resnet")
    spec, tensor = model.spec, model.mean
    with pytest.raises(OptionError, match=message):
        model.set_normalization(mean, std)
    assert model.spec is spec and model.mean is tensor


def test_predict_with_another_number_of_channels() -> None:
    model = create("unet", encoder="test_resnet", num_classes=2, in_channels=5)
    assert model.predict(np.zeros((20, 30, 5), np.uint8)).mask.shape == (20, 30)
    with pytest.raises(ImageError, match="5"):
        model.predict(np.zeros((20, 30, 3), np.uint8))


def test_masks_of_more_than_256_classes_are_int32() -> None:
    model = create("unet", encoder="test_resnet", num_classes=300)
    assert model.predict(np.zeros((8, 8, 3), np.uint8)).mask.dtype == np.int32


def test_predict_on_real_frames(camvid: Path) -> None:
    model = small("segnet", "vgg11_bn")
    frames = sorted((camvid / "val" / "images").iterdir())[:2]
    for frame, mask in zip(frames, model.predict(frames), strict=True):
        with Image.open(frame) as image:
            assert mask.size == (image.height, image.width)
        assert len(np.unique(mask)) > 1


def test_an_unsupported_output_stride_names_a_supported_one() -> None:
    with pytest.raises(PairingError, match="output_stride=32 needs no dilation"):
        small("fcn", "maxvit_pico_rw_256")
    with warnings.catch_warnings():
        assert small("fcn", "maxvit_pico_rw_256", output_stride=32)(torch.randn(1, 3, 20, 20)).shape == (1, 5, 20, 20)


def test_half_precision_predicts() -> None:
    model = create("unet", "test_resnet", 3, decoder_channels=8).eval()
    image = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    expected = model.predict(image).mask
    assert (model.bfloat16().predict(image).mask == expected).mean() > 0.9


def test_repr_is_one_line_and_tree_has_the_modules() -> None:
    model = create("fcn", "test_resnet", num_classes=5)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert repr(model) == f"EncoderDecoder(fcn on test_resnet, 5 classes, {count:,} parameters, cpu)"
    assert model.tree.count("\n") > 50 and "(decoder): FCN(" in model.tree
