"""Any size, any batch, any mode, for every decoder on every kind of encoder."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from segzoo import create
from segzoo.errors import ImageError, PairingError
from segzoo.models.base import SegmentationModel
from segzoo.models.decoders import DECODERS

# One of each way of rounding and starting: VGG (level 0, before its pools), ResNet, the paper's own, ConvNeXt (level
# 2), Xception (no size is half of another), EfficientNet's (signed maps), and one that is padded to windows.
ENCODERS = ["vgg11_bn", "test_resnet", "unet", "test_convnext", "xception", "test_efficientnet", "maxvit_pico_rw_256"]
SIZES = [(1, 1), (33, 47), (70, 97)]
LARGER = [(250, 333), (360, 480)]


def small(decoder: str, encoder: str, **options: object) -> SegmentationModel:
    """Like create, with narrow hidden layers: what they are wide does not matter here."""
    if decoder in ("fcn32s", "fcn16s", "fcn8s", "deconvnet"):
        options = {"hidden": (3, 32), **options}
    return create(decoder, encoder=encoder, num_classes=5, **options)


def pairs() -> list[tuple[str, str]]:
    impossible = {("fcn32s", "unet"), ("fcn16s", "unet"), ("fcn8s", "unet")}  # it has no level 5
    undilated = {("fcn", "maxvit_pico_rw_256"), ("deeplab_largefov", "maxvit_pico_rw_256")}
    every = [(d, e) for d in DECODERS for e in ENCODERS]
    return [pair for pair in every if pair not in impossible | undilated]


@torch.inference_mode()
@pytest.mark.parametrize(("decoder", "encoder"), pairs())
def test_any_size(decoder: str, encoder: str) -> None:
    model = small(decoder, encoder).eval()
    for height, width in SIZES + LARGER if encoder == "test_resnet" else SIZES:
        logits = model(torch.randn(1, 3, height, width))
        assert logits.shape == (1, 5, height, width)
        assert logits.isfinite().all()


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("encoder", ["inception_v3", "inception_v4", "halonet26t"])
def test_any_size_where_an_encoder_needs_a_least_one(encoder: str, mode: bool) -> None:
    """Shapes alone: these encoders are large."""
    with torch.device("meta"):
        model = create("unet", encoder, 5, width=8).train(mode)
        for height, width in [*SIZES, *LARGER]:
            assert model(torch.empty(1, 3, height, width)).shape == (1, 5, height, width)


@pytest.mark.parametrize(("decoder", "encoder"), pairs())
def test_training_reaches_every_parameter(decoder: str, encoder: str) -> None:
    model = small(decoder, encoder, **({"auxiliary": True} if decoder == "fcn" else {})).train()
    for module in model.modules():
        # timm starts a residual block's last scale at zero, and layer scale near it: no gradient passes a zero.
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
def test_compiles_whole_for_changing_sizes(decoder: str, encoder: str) -> None:
    model = small(decoder, encoder).eval()
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for height, width in ((64, 96), (33, 47), (1, 1)):  # a second size is what makes it dynamic
        image = torch.randn(2, 3, height, width)
        torch.testing.assert_close(compiled(image), model(image), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_at_multiples_nothing_is_padded_and_the_rest_is_cropped() -> None:
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
    """Ours against theirs: torchvision's random weights copied over, its logits to 1e-5."""
    theirs = getattr(torchvision.models.segmentation, name)(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    ).eval()
    ours = create("fcn", encoder=name.removeprefix("fcn_"), num_classes=21, auxiliary=True).eval()
    prefixes = {
        "backbone.": "encoder.net.",
        "classifier.": "decoder.head.",
        "aux_classifier.": "decoder.auxiliary_head.",
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


def test_auxiliary_is_none_where_there_is_none() -> None:
    assert small("unet", "test_resnet")(torch.randn(2, 3, 8, 8), auxiliary=True)[1] is None


# Predict.


@torch.inference_mode()
def test_normalise_is_the_textbook_formula() -> None:
    model = small("unet", "test_resnet")
    images = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    mean, std = torch.tensor(model.mean), torch.tensor(model.std)
    expected = ((images / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(model.normalise(images), expected, atol=1e-5, rtol=1e-5)


def test_predict_takes_paths_pictures_arrays_and_lists(photograph: np.ndarray, tmp_path: Path) -> None:
    model = small("unet", "test_resnet").train()
    Image.fromarray(photograph).save(tmp_path / "photo.png")
    small_one = np.ascontiguousarray(photograph[:33, :47])
    expected = model.predict(photograph)
    assert expected.shape == photograph.shape[:2]
    assert expected.dtype == np.uint8 and expected.max() < 5
    assert model.training  # as it was
    masks = model.predict([tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(photograph), small_one])
    assert all(np.array_equal(mask, expected) for mask in masks[:3])
    assert masks[3].shape == (33, 47)
    assert model.predict([]) == []


def test_predict_leaves_frozen_layers_frozen() -> None:
    model = small("unet", "test_resnet").train()
    model.encoder.eval()
    model.predict(np.zeros((20, 30, 3), np.uint8))
    assert model.training and model.decoder.training and not model.encoder.training


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 4, 32, 32), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8)]
)
def test_what_is_no_normalised_image_says_what_is(image: torch.Tensor) -> None:
    with pytest.raises(ImageError, match=r"normalised floats \(N, 3, H, W\).*model\.normalise"):
        small("unet", "test_resnet")(image)


@pytest.mark.parametrize("images", [torch.rand(1, 8, 8, 3), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)])
def test_normalise_refuses_what_it_would_spoil(images: torch.Tensor) -> None:
    with pytest.raises(ImageError, match="normalise takes uint8 images"):
        small("unet", "test_resnet").normalise(images)


@pytest.mark.parametrize("upsample", ["bilinear", "transposed"])
@pytest.mark.parametrize("encoder", ["vgg11", "test_resnet"])
def test_dilated_skip_heads_keep_their_fine_scores(encoder: str, upsample: str) -> None:
    model = small("fcn8s", encoder, output_stride=8, upsample=upsample).eval()
    sizes = []
    for up in model.decoder.ups:
        up.register_forward_hook(lambda _, inputs, out: sizes.append((inputs[0].shape[-1], out.shape[-1])))
    model(torch.randn(1, 3, 64, 64))
    assert sizes == [(8, 8), (8, 8)]


def test_predict_with_another_number_of_channels() -> None:
    model = create("unet", encoder="test_resnet", num_classes=2, in_channels=5)
    assert model.predict(np.zeros((20, 30, 5), np.uint8)).shape == (20, 30)
    with pytest.raises(ImageError, match="5"):
        model.predict(np.zeros((20, 30, 3), np.uint8))


def test_more_than_256_classes_need_wider_labels() -> None:
    model = create("unet", encoder="test_resnet", num_classes=300)
    assert model.predict(np.zeros((8, 8, 3), np.uint8)).dtype == np.int32


def test_predict_on_real_frames(camvid: Path) -> None:
    model = small("segnet", "vgg11_bn")
    frames = sorted((camvid / "val" / "images").iterdir())[:2]
    for frame, mask in zip(frames, model.predict(frames), strict=True):
        with Image.open(frame) as image:
            assert mask.shape == (image.height, image.width)
        assert len(np.unique(mask)) > 1


def test_a_stride_that_cannot_be_had_names_a_way_out() -> None:
    with pytest.raises(PairingError, match="output_stride=32 needs no dilation"):
        small("fcn", "maxvit_pico_rw_256")
    with warnings.catch_warnings():
        assert small("fcn", "maxvit_pico_rw_256", output_stride=32)(torch.randn(1, 3, 20, 20)).shape == (1, 5, 20, 20)
