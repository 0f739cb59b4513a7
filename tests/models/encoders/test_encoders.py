"""Every encoder follows the contract, or raises a PairingError that gives the reason."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

import segzoo
from segzoo.errors import CheckpointError, DownloadError, OptionError, PairingError, UnknownNameError
from segzoo.models.encoders import create_encoder, list_encoders, timm_encoder
from segzoo.models.layers.dilation import dry_run

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

PYRAMIDS = [
    # name, levels, channels
    ("unet", (0, 1, 2, 3, 4), (64, 128, 256, 512, 1024)),
    ("vgg16", (0, 1, 2, 3, 4, 5), (64, 128, 256, 512, 512, 512)),
    ("vgg16_bn", (0, 1, 2, 3, 4, 5), (64, 128, 256, 512, 512, 512)),
    ("resnet18", (1, 2, 3, 4, 5), (64, 64, 128, 256, 512)),
    ("resnet34", (1, 2, 3, 4, 5), (64, 64, 128, 256, 512)),
    ("resnet50", (1, 2, 3, 4, 5), (64, 256, 512, 1024, 2048)),
    ("resnet101", (1, 2, 3, 4, 5), (64, 256, 512, 1024, 2048)),
    ("xception", (1, 2, 3, 4, 5), (64, 128, 256, 728, 2048)),
    ("xception41", (1, 2, 3, 4, 5), (128, 256, 728, 1024, 2048)),
    ("xception65", (1, 2, 3, 4, 5), (128, 256, 728, 1024, 2048)),
    ("xception71", (1, 2, 3, 4, 5), (128, 256, 728, 1024, 2048)),
    ("mobilenet", (1, 2, 3, 4, 5), (16, 24, 32, 96, 320)),
    ("mobilenetv1_100", (1, 2, 3, 4, 5), (64, 128, 256, 512, 1024)),
    ("mobilenetv3_large_100", (1, 2, 3, 4, 5), (16, 24, 40, 112, 960)),
    ("efficientnet_b0", (1, 2, 3, 4, 5), (16, 24, 40, 112, 320)),
    ("convnext_tiny", (2, 3, 4, 5), (96, 192, 384, 768)),
    ("pvt_v2_b0", (2, 3, 4, 5), (32, 64, 160, 256)),
    ("swin_tiny_patch4_window7_224", (2, 3, 4, 5), (96, 192, 384, 768)),
    ("maxvit_tiny_tf_224", (1, 2, 3, 4, 5), (64, 64, 128, 256, 512)),
    ("csatv2", (3, 4, 5, 6), (32, 72, 168, 386)),
]


@torch.inference_mode()
@pytest.mark.parametrize(("name", "levels", "channels"), PYRAMIDS, ids=[row[0] for row in PYRAMIDS])
def test_maps_match_features(name: str, levels: tuple[int, ...], channels: tuple[int, ...]) -> None:
    encoder = create_encoder(name).eval()
    features = encoder.features
    assert (features.levels, features.channels, features.strides) == (levels, channels, tuple(2**n for n in levels))
    k = encoder.size_divisibility
    size = max(128, k)
    maps = encoder(torch.randn(1, 3, size, size))
    assert len(maps) == len(levels)
    for m, channel, stride in zip(maps, channels, features.strides, strict=True):
        assert m.shape[1] == channel
        assert size / stride - 3 <= m.shape[2] <= size / stride  # legacy_xception's unpadded stem loses some rows


@torch.inference_mode()
def test_channels_last_maps_are_permuted() -> None:
    encoder = create_encoder("swin_tiny_patch4_window7_224").eval()
    image = torch.randn(1, 3, 224, 224)
    for ours, theirs in zip(encoder(image), encoder.net(image), strict=True):
        assert torch.equal(ours.permute(0, 2, 3, 1), theirs)


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
@pytest.mark.parametrize("name", ["unet", "vgg11_bn", "mobilenet", "test_resnet"])
def test_image_channels(name: str, channels: int) -> None:
    encoder = create_encoder(name, in_channels=channels)
    assert len(encoder.mean) == len(encoder.std) == channels
    assert len(encoder(torch.randn(2, channels, 64, 64))) == len(encoder.features.levels)


@pytest.mark.parametrize("channels", [0, 17, -1])
def test_image_channels_out_of_range(channels: int) -> None:
    with pytest.raises(OptionError, match="1 to 16"):
        create_encoder("test_resnet", in_channels=channels)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet", IMAGENET),
        ("xception", HALF),
        ("mobilenetv3_large_100.ra_in1k", IMAGENET),
        ("mobilenetv3_large_100.ra4_e3600_r224_in1k", HALF),  # the same network: normalization depends on the weights
    ],
)
def test_normalization_depends_on_the_weights(name: str, expected: tuple[tuple[float, ...], ...]) -> None:
    encoder = create_encoder(name)
    assert (encoder.mean, encoder.std) == expected


@pytest.mark.parametrize(
    ("name", "stride", "reason"),
    [
        ("vit_tiny_patch16_224", 32, r"no pyramid: its strides are \[16, 16, 16\]"),
        ("pit_ti_224", 32, "no pyramid|sizes other than its own 224x224"),
        ("coat_tiny", 32, "returns no feature maps|sizes other than its own 224x224"),
        ("hiera_tiny_224", 32, "sizes other than its own 224x224"),
        ("coatnet_nano_rw_224", 32, "sizes other than its own 224x224"),
        ("swin_tiny_patch4_window7_224", 8, r"does not support strides \[4, 8, 8, 8\]"),
        ("pvt_v2_b0", 8, "output_stride=8"),
    ],
)
def test_networks_that_cannot_be_encoders_give_the_reason_and_alternatives(name: str, stride: int, reason: str) -> None:
    with pytest.raises(PairingError, match=reason) as caught:
        create_encoder(name, output_stride=stride)
    assert "'resnet50'" in str(caught.value)


def test_the_alternatives_work_at_every_stride() -> None:
    for name in ("resnet50", "mobilenet", "convnext_tiny"):
        for stride in (8, 16, 32):
            with torch.device("meta"):
                assert create_encoder(name, output_stride=stride).features.strides[-1] == stride


def test_unknown_names_suggest_similar_ones() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet101'"):
        create_encoder("resnet1O1")
    with pytest.raises(UnknownNameError, match="a1_in1k") as caught:
        create_encoder("resnet50.a1_in1")
    assert "a1_in1k" in str(caught.value)


def test_listing() -> None:
    names = list_encoders()
    assert len(names) > 800
    assert names[:3] == ["unet", "xception", "mobilenet"]
    assert list_encoders("resnet101") == ["resnet101"]
    assert not {"vit_tiny_patch16_224", "coatnet_nano_rw_224", "hiera_tiny_224"} & set(names)


def test_listed_encoders_can_be_created() -> None:
    for name in list_encoders("test_*"):
        with torch.device("meta"):
            create_encoder(name)


# Pretrained weights


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
@torch.inference_mode()
def test_torchvisions_file_gives_torchvisions_features(name: str, ending: str, tmp_path: Path) -> None:
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    path = tmp_path / f"weights{ending}"
    save_file(theirs.state_dict(), path) if ending == ".safetensors" else torch.save(theirs.state_dict(), path)
    encoder = create_encoder(name, weights=str(path)).eval()
    image = torch.randn(1, 3, 64, 96)
    body = theirs.features if name.startswith("vgg") else torch.nn.Sequential(*list(theirs.children())[:-2])
    torch.testing.assert_close(encoder(image)[-1], body(image), atol=1e-6, rtol=0)


def test_timms_own_file_with_one_image_channel(tmp_path: Path) -> None:
    full = timm.create_model("test_resnet")
    torch.save({"state_dict": full.state_dict()}, tmp_path / "w.pth")
    encoder = create_encoder("test_resnet", in_channels=1, weights=str(tmp_path / "w.pth"))
    name = f"{full.pretrained_cfg['first_conv']}.weight"
    stem = encoder.net.state_dict()[name]
    torch.testing.assert_close(stem, full.state_dict()[name].sum(1, keepdim=True))


def test_a_file_of_another_network_is_rejected(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth .*Missing: .*layer"):
        create_encoder("resnet18", weights=str(tmp_path / "w.pth"))
    with pytest.raises(CheckpointError, match="No file"):
        create_encoder("resnet18", weights=str(tmp_path / "missing.pth"))


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    torch.save({"a": Evil()}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        create_encoder("test_resnet", weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_damaged_files_are_rejected(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{ending}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="Cannot read" if content else "is empty"):
        create_encoder("test_resnet", weights=str(path))


def test_imagenet_without_a_network_says_how_to_pass_a_file() -> None:
    with pytest.raises(DownloadError, match=r"encoder_weights='path/to/resnet18"):
        create_encoder("resnet18", weights="imagenet")


@pytest.mark.parametrize("tag", ["a1_in1k", "resnet18.a1_in1k"])
def test_a_tag_names_the_weights(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    created = []

    def create(name: str, **options: object) -> torch.nn.Module:
        created.append((name, options["pretrained"]))
        return timm_create(name, **{**options, "pretrained": False})

    timm_create = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    create_encoder("resnet18", weights=tag)
    assert created == [("resnet18.a1_in1k", True)]


def test_an_unknown_tag() -> None:
    with pytest.raises(UnknownNameError, match=r"a1_in2k.*Did you mean 'a1_in1k'"):
        create_encoder("resnet18", weights="a1_in2k")


def test_offline_applies_to_encoder_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    with pytest.raises(DownloadError, match="SEGZOO_OFFLINE=1 forbids the network"):
        create_encoder("resnet18", weights="imagenet")


def test_offline_applies_to_weights_that_are_not_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """timm downloads those of a few networks with torch.hub."""

    def download(url: str, *_: object, **__: object) -> None:
        raise AssertionError(f"{url} was requested")

    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(DownloadError, match="'legacy_seresnet18': SEGZOO_OFFLINE=1 forbids the network"):
        create_encoder("legacy_seresnet18", weights="imagenet")
    cached = tmp_path / "hub" / "checkpoints" / "seresnet18-4bb0ce65.pth"
    assert timm.get_pretrained_cfg("legacy_seresnet18").url.endswith(f"/{cached.name}")
    cached.parent.mkdir(parents=True)
    state = timm.create_model("legacy_seresnet18").state_dict()
    torch.save(state, cached)
    encoder = create_encoder("legacy_seresnet18", weights="imagenet")
    assert torch.equal(encoder.net.state_dict()["layer0.conv1.weight"], state["layer0.conv1.weight"])


def test_the_unet_encoder_has_no_pretrained_weights() -> None:
    with pytest.raises(UnknownNameError, match="no pretrained weights"):
        create_encoder("unet", weights="imagenet")


def test_the_encoder_of_a_segzoo_model_initializes_another_model(tmp_path: Path) -> None:
    trained = segzoo.create("unet", "test_resnet", num_classes=3)
    trained.set_normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    path = segzoo.save(trained, tmp_path / "trained")
    model = segzoo.create("fcn", "test_resnet", num_classes=5, encoder_weights=path)
    for name, tensor in trained.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], tensor), name
    assert (
        (model.spec.mean, model.spec.std) == (trained.spec.mean, trained.spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    )
    assert torch.equal(model.mean, trained.mean) and torch.equal(model.std, trained.std)


def test_the_encoder_of_a_model_in_the_catalog_initializes_another_model() -> None:
    model = segzoo.create("fcn32s", "mobilenetv4_conv_small", encoder_weights="unet/mobilenetv4_conv_small/camvid")
    trained = segzoo.load("unet/mobilenetv4_conv_small/camvid")
    for name, tensor in trained.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], tensor), name


def test_a_model_with_another_encoder_is_rejected(tmp_path: Path) -> None:
    path = segzoo.save(segzoo.create("unet", "test_resnet", num_classes=3), tmp_path / "trained.safetensors")
    with pytest.raises(
        CheckpointError, match=r"(?s)It holds a model with encoder 'test_resnet'\..*a segzoo model with"
    ):
        create_encoder("test_efficientnet", weights=str(path))


def test_a_network_for_one_size_is_rejected_even_if_it_is_the_size_of_the_dry_run() -> None:
    with torch.device("meta"), pytest.raises(PairingError, match="does not run at sizes other than its own 256x256"):
        create_encoder("hiera_base_abswin_256")


def test_a_network_is_measured_again_only_if_its_maps_may_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(net: torch.nn.Module, in_channels: int, size: int) -> list[torch.Tensor]:
        sizes.append(size)
        return dry_run(net, in_channels, size)

    monkeypatch.setattr(timm_encoder, "dry_run", counted)
    monkeypatch.setattr(timm_encoder, "_MEASURED", set())
    for options in ({}, {"in_channels": 1}, {"output_stride": 16}):
        before = len(sizes)
        first = create_encoder("test_resnet", **options)
        assert len(sizes) == before + 1
        assert create_encoder("test_resnet", **options).features == first.features
        assert len(sizes) == before + 1
    for _ in range(2):  # a failure is never remembered
        with torch.device("meta"), pytest.raises(PairingError, match="does not run at sizes other than its own"):
            create_encoder("hiera_base_abswin_256")
    assert len(sizes) == 5


def test_similar_catalog_keys_are_suggested() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'unet/mobilenetv4_conv_small/camvid'"):
        segzoo.create("fcn8s", "mobilenetv4_conv_small", encoder_weights="unet/mobilenetv4_conv_smal/camvid")
