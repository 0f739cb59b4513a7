"""Published parameter counts, and the properties of each decoder."""

import pytest
import torch
import torch.nn.functional as F

from segzoo import create
from segzoo.errors import OptionError, UnknownNameError
from segzoo.models.decoders import DECODERS
from segzoo.models.layers.unpooling import Unpool
from segzoo.models.layers.upsampling import UPSAMPLE_MODES, Interpolate, Transposed, UpConv

COUNTS = [
    ("segnet", {"num_classes": 11}, 29_449_355),
    ("segnet", {"num_classes": 21}, 29_443_008 + 577 * 21),
    ("deconvnet", {"num_classes": 21}, 251_805_653),
    ("deeplab_largefov", {"num_classes": 21}, 20_505_429),
    ("fcn8s", {"num_classes": 21}, 134_362_751),
    ("fcn16s", {"num_classes": 21}, 134_357_354),
    ("fcn32s", {"num_classes": 21}, 134_346_581),
    ("fcn", {"num_classes": 21, "encoder": "resnet101"}, 51_949_141),
    ("fcn", {"num_classes": 21, "encoder": "resnet101", "auxiliary": True}, 54_314_346),
    ("fcn", {"num_classes": 21, "encoder": "resnet50"}, 32_957_013),
    ("fcn", {"num_classes": 21, "encoder": "resnet50", "auxiliary": True}, 35_322_218),
    ("unet", {"num_classes": 2, "in_channels": 3}, 31_037_698),
]


@pytest.mark.parametrize(("decoder", "options", "expected"), COUNTS)
def test_parameter_counts_are_the_published_ones(decoder: str, options: dict[str, object], expected: int) -> None:
    with torch.device("meta"):
        model = create(decoder, **options)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.slow
def test_no_decoder_is_enormous_on_another_encoder() -> None:
    for decoder in DECODERS:
        for encoder in ("resnet101", "xception", "mobilenet", "convnext_tiny"):
            with torch.device("meta"):
                model = create(decoder, encoder=encoder, num_classes=21)
            assert sum(p.numel() for p in model.decoder.parameters()) < 65e6, (decoder, encoder)


@torch.inference_mode()
def test_fcn8s_adds_the_scores_of_pool4_and_pool3() -> None:
    model = create("fcn8s", encoder="vgg11", num_classes=3, fc_head=(7, 16)).eval()
    decoder, maps = model.decoder, model.encoder(torch.randn(1, 3, 64, 96))
    up = lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)  # noqa: E731
    pool3, pool4, pool5 = F.max_pool2d(maps[2], 2), F.max_pool2d(maps[3], 2), maps[5]
    expected = decoder.classifier(decoder.fc_head(pool5))
    expected = up(expected) + decoder.skip_classifiers[0](pool4)
    expected = up(expected) + decoder.skip_classifiers[1](pool3)
    assert (pool3.shape[1], pool3.shape[-1], pool4.shape[1], pool4.shape[-1]) == (256, 12, 512, 6)
    torch.testing.assert_close(decoder(maps), expected)


@torch.inference_mode()
def test_segnet_uses_vggs_pooling_indices() -> None:
    """Each upsampling module of SegNet's decoder equals max_unpool2d with the indices of VGG's own pooling."""
    model = create("segnet", encoder="vgg11_bn", num_classes=2).eval()
    maps = model.encoder(torch.randn(1, 3, 64, 96))
    x = maps[5]
    for level, up in zip((4, 3, 2, 1, 0), model.decoder.ups, strict=True):
        ref = maps[level]
        x = x[:, : ref.shape[1]]
        pooled, indices = F.max_pool2d(ref, 2, return_indices=True)
        assert pooled.shape == x.shape
        expected = F.max_unpool2d(x, indices, 2)
        x = up(x, ref)
        assert torch.equal(x, expected)
    assert torch.equal(F.max_pool2d(maps[4], 2), maps[5])


def test_largefov_keeps_its_field_of_view_at_every_output_stride() -> None:
    for stride in (8, 16, 32):
        model = create("deeplab_largefov", encoder="test_resnet", output_stride=stride, num_classes=3)
        assert model.decoder.fc_head.fc6.dilation[0] * stride == 12 * 8


@torch.inference_mode()
def test_largefov_on_vgg_pools_as_the_paper_does() -> None:
    model = create("deeplab_largefov", encoder="vgg11", num_classes=3).eval()
    maps = model.encoder(torch.randn(1, 3, 64, 96))
    assert [m.shape[-1] for m in maps] == [96, 48, 24, 12, 12, 12]
    expected = model.decoder.head(model.decoder.fc_head(F.max_pool2d(maps[4], 3, stride=1, padding=1)))
    assert torch.equal(model.decoder(maps), expected)


SUPPORTED_MODES = {
    "fcn32s": {"bilinear"},
    "fcn16s": {*UPSAMPLE_MODES} - {"unpool"},
    "fcn8s": {*UPSAMPLE_MODES} - {"unpool"},
    "fcn": set(),
    "unet": {*UPSAMPLE_MODES},
    "segnet": {*UPSAMPLE_MODES},
    "deconvnet": {*UPSAMPLE_MODES},
    "deeplab_largefov": set(),
}
"""Upsampling modes of each decoder, according to its docstring."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"project": False}, "needs project=True"),
        ({"stride1_skip": False}, "a skip connection at every stage, at level 0 too"),
    ],
)
def test_unet_rejects_options_that_unpooling_excludes(options: dict[str, bool], message: str) -> None:
    with pytest.raises(OptionError, match=message), torch.device("meta"):
        create("unet", encoder="vgg11_bn", num_classes=2, upsample="unpool", **options)


@pytest.mark.parametrize("upsample", UPSAMPLE_MODES)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ["test_resnet", "vgg11_bn", "test_convnext"])
def test_every_upsampling_mode(decoder: str, upsample: str, encoder: str) -> None:
    options = {"fc_head": (3, 16)} if decoder in ("fcn32s", "fcn16s", "fcn8s", "deconvnet") else {}
    if upsample not in SUPPORTED_MODES[decoder]:
        with pytest.raises(UnknownNameError, match=f"'{decoder}' takes|Unknown option 'upsample'"):
            create(decoder, encoder=encoder, num_classes=3, upsample=upsample, **options)
        return
    model = create(decoder, encoder=encoder, num_classes=3, upsample=upsample, **options)
    assert model(torch.randn(2, 3, 33, 47)).shape == (2, 3, 33, 47)


MODULES = {
    "bilinear": Interpolate,
    "nearest": Interpolate,
    "transposed": Transposed,
    "upconv": UpConv,
    "unpool": Unpool,
}


@pytest.mark.parametrize(
    ("decoder", "upsample"),
    [(name, mode) for name in SUPPORTED_MODES for mode in UPSAMPLE_MODES if mode in SUPPORTED_MODES[name]],
)
def test_every_stage_uses_the_chosen_mode_and_learns(decoder: str, upsample: str) -> None:
    model = create(decoder, encoder="test_resnet", num_classes=3, upsample=upsample)
    model(torch.randn(2, 3, 33, 47)).square().mean().backward()
    modules = [module for module in model.decoder.modules() if isinstance(module, MODULES[upsample])]
    assert len(modules) == len(model.decoder.ups)
    assert all(p.grad is not None and p.grad.any() for module in modules for p in module.parameters())


@pytest.mark.parametrize("upsample", UPSAMPLE_MODES)
@pytest.mark.parametrize("decoder", ["unet", "segnet"])
@pytest.mark.parametrize("encoder", ["inception_v3", "xception"])
def test_every_upsampling_mode_with_maps_that_are_not_halves_of_each_other(
    encoder: str, decoder: str, upsample: str
) -> None:
    sizes: list[tuple[torch.Size, torch.Size]] = []
    with torch.device("meta"):
        model = create(decoder, encoder=encoder, num_classes=3, upsample=upsample).eval()
        for up in model.decoder.ups:
            up.register_forward_hook(lambda _, inputs, out: sizes.append((inputs[1].shape[-2:], out.shape[-2:])))
        maps = model.encoder(torch.empty(1, 3, 224, 160))
        model.decoder(maps)
    assert [(m.shape[-2:],) * 2 for m in maps[-2::-1]] == sizes


@torch.inference_mode()
@pytest.mark.parametrize("upsample", ["bilinear", "nearest", "transposed", "upconv"])
@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize(
    ("encoder", "center"), [("test_resnet", None), ("vgg11", "convs"), ("test_convnext", "expand")]
)
def test_unet_reaches_full_size_on_any_encoder(encoder: str, center: str | None, project: bool, upsample: str) -> None:
    options = {"decoder_channels": (8, 8, 6, 6, 4), "stride1_skip": False, "center": center, "project": project}
    model = create("unet", encoder, num_classes=3, upsample=upsample, head_kernel_size=3, **options).eval()
    assert model.decoder(model.encoder(torch.randn(1, 3, 64, 96))).shape == (1, 3, 64, 96)
    assert model.decoder.blocks[4][0][0].in_channels == (4 if project else 6)  # and no skip
    assert [skip is None for _, skip in model.decoder.stages] == [
        level == 0 or level not in model.encoder.features.levels for level in (4, 3, 2, 1, 0)
    ]


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_are_final_and_described(name: str) -> None:
    decoder = DECODERS[name]
    assert not decoder.__subclasses__()
    assert "arXiv" in decoder.paper and decoder.default_encoder and decoder.__doc__
