"""create, build, save, load: error messages, and files that rebuild the model."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from segzoo import create, list_models, load, save
from segzoo.classes import CLASS_SETS, ClassSet
from segzoo.errors import CheckpointError, OptionError, PairingError, SegzooError, UnknownNameError
from segzoo.models.base import SegmentationModel
from segzoo.models.build import build
from segzoo.models.decoders import DECODERS
from segzoo.models.papers import PAPERS


def tiny(**options: object) -> SegmentationModel:
    return create("unet", encoder="test_resnet", **{"num_classes": 3, **options})


# create


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decoder": "u-net"}, "Unknown decoder 'u-net'. Did you mean 'unet'"),
        ({"decoder": "transformer"}, "Decoders are fcn32s, "),
        ({"decoder": "unet", "upsampel": "bilinear"}, "Did you mean 'upsample'"),
        ({"decoder": "unet", "upsample": "bilinea"}, "Did you mean 'bilinear'"),
        ({"decoder": "fcn8s", "encoder": "vgg11", "upsample": "unpool"}, "takes bilinear, nearest, transposed"),
        ({"decoder": "deeplab_largefov", "upsample": "bilinear"}, "'deeplab_largefov' takes no options"),
        ({"decoder": "unet", "classes": "camvit"}, "camvid"),
        ({"decoder": "unet", "classes": "camvid", "num_classes": 5}, "num_classes=5, but the class set names 11"),
        ({"decoder": "unet", "num_classes": 1}, "at least 2"),
    ],
)
def test_unknown_names(arguments: dict[str, object], message: str) -> None:
    with pytest.raises((UnknownNameError, OptionError), match=message):
        create(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("unet", 11), "encoder must be a name"),
        ((None,), "decoder must be a name"),
        ((["unet"],), "decoder must be a name"),
        (("unet", ""), "Unknown encoder"),
        (("unet", None, "11"), "num_classes must be a whole number, not '11'"),
        (("unet", None, 2.5), "num_classes must be a whole number"),
        ({"in_channels": "3"}, "in_channels must be a whole number"),
        ({"in_channels": 0}, "in_channels must be 1 or more, not 0"),
        ({"classes": ["a", "b"]}, "the path of a file or a segzoo.ClassSet"),
        ({"encoder_weights": True}, "encoder_weights must be None"),
        ({"decoder_channels": -3}, "at least 1"),
        (
            {"decoder_channels": "8"},
            "decoder_channels= of 'unet' must be a whole number or a list of whole numbers or None, not '8'",
        ),
        ({"decoder_channels": True}, "not True"),
        ({"decoder_channels": (8, "8")}, "not (8, '8')"),
        ({"decoder_channels": ()}, "decoder_channels takes 1 to 4 numbers"),
        ({"decoder_channels": (8,) * 5}, "decoder_channels takes 1 to 4 numbers"),
        ({"decoder_channels": (8, 0)}, "decoder_channels takes 1 to 4 numbers >= 1"),
        ({"head_kernel_size": 2}, "odd"),
        ({"head_kernel_size": 0}, "odd and at least 1"),
        ({"center": "conv"}, "Did you mean 'convs'"),
        ({"upsample": "unpool", "project": False}, "needs project=True"),
        ({"upsample": "unpool", "stride1_skip": False}, "at level 0 too"),
        ({"output_stride": 0}, "not 0"),
        ({"output_stride": "16"}, "whole number, not '16'"),
    ],
)
def test_invalid_arguments(arguments: tuple[object, ...] | dict[str, object], message: str) -> None:
    with pytest.raises((OptionError, UnknownNameError, PairingError)) as caught:
        create(*arguments) if isinstance(arguments, tuple) else create("unet", **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("fc_head", [5, "ab", (-3, 8), (4, 16), (3,)])
@pytest.mark.parametrize("decoder", ["fcn8s", "deconvnet"])
def test_invalid_sizes_of_fc6_and_fc7(decoder: str, fc_head: object) -> None:
    with pytest.raises(OptionError, match="fc_head"):
        create(decoder, encoder="test_resnet", fc_head=fc_head)


def test_numpys_integers_are_integers(tmp_path: Path) -> None:
    assert load(save(tiny(num_classes=np.int64(3)), tmp_path / "m")).spec.num_classes == 3


def test_info_is_json() -> None:
    with pytest.raises(OptionError, match="JSON"):
        tiny().with_info(a=torch.zeros(2))


def test_only_models_of_segzoo_are_saved(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not Linear"):
        save(torch.nn.Linear(2, 2), tmp_path / "m")


@pytest.mark.parametrize(
    ("decoder", "options", "message"),
    [
        ("fcn8s", {"encoder": "unet"}, r"needs levels \[3, 4, 5\].*create\('fcn8s', encoder='vgg16'\) works"),
        ("unet", {"encoder": "vit_tiny_patch16_224"}, r"no pyramid.*create\('unet', encoder='unet'\) works"),
        ("unet", {"output_stride": 8}, "works at output_stride 32, not 8"),
        ("fcn", {"encoder": "pvt_v2_b0"}, r"output_stride=32 needs no dilation.*create\('fcn', encoder='resnet50'\)"),
    ],
)
def test_impossible_pairings_name_a_possible_one(decoder: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(PairingError, match=message):
        create(decoder, **options)


def test_every_decoder_works_with_its_default_encoder() -> None:
    for name, decoder in DECODERS.items():
        with torch.device("meta"):
            assert create(name).spec.encoder == decoder.default_encoder


def test_defaults() -> None:
    assert list_models() == [*DECODERS, *PAPERS]
    with torch.device("meta"):
        assert create("unet").spec.num_classes == 21
        model = create("unet", classes="camvid")
    assert model.spec.num_classes == 11
    assert model.classes is CLASS_SETS["camvid"]
    assert model.training


# save and load


@torch.inference_mode()
@pytest.mark.parametrize(
    ("decoder", "options"),
    [
        ("unet", {"upsample": "bilinear", "decoder_channels": 8}),
        ("unet", {"decoder_channels": (16, 8, 8, 8, 4), "project": False, "center": "convs", "head_kernel_size": 3}),
        ("fcn", {"auxiliary": True, "output_stride": 16}),
        ("fcn8s", {"fc_head": (3, 8)}),
        ("segnet", {"in_channels": 4}),
        ("unet", {"encoder": "swin_tiny_patch4_window7_224"}),  # has buffers that files do not store
    ],
)
def test_a_file_rebuilds_the_model(decoder: str, options: dict[str, object], tmp_path: Path) -> None:
    model = create(decoder, **{"encoder": "test_resnet", "classes": "camvid", **options}).eval()
    model.with_info(trained_on="nothing", metrics={"mean_iou": 0.5})
    path = save(model, tmp_path / "model")
    assert path == tmp_path / "model.safetensors"
    assert os.listdir(tmp_path) == ["model.safetensors"]
    again = load(path)
    assert not again.training
    assert json.loads(json.dumps(again.spec.options)) == json.loads(json.dumps(model.spec.options))
    assert again.spec.info == {"trained_on": "nothing", "metrics": {"mean_iou": 0.5}}
    assert again.classes == CLASS_SETS["camvid"]
    assert (again.spec.mean, again.spec.std) == (model.spec.mean, model.spec.std)
    assert torch.equal(again.mean, model.mean) and torch.equal(again.std, model.std)
    image = torch.randn(1, model.spec.in_channels, 33, 47)
    assert torch.equal(again(image), model(image))


def test_normalization_comes_from_the_file(tmp_path: Path) -> None:
    model = tiny()
    std = model.spec.std
    model.set_normalization((0.1, 0.2, 0.3), std)
    again = load(save(model, tmp_path / "m"))
    assert (again.spec.mean, again.spec.std) == ((0.1, 0.2, 0.3), std)
    assert torch.equal(again.mean, model.mean) and torch.equal(again.std, model.std)


@pytest.mark.parametrize("folder", [False, True])
def test_half_stores_kernels_as_float16(folder: bool, tmp_path: Path) -> None:
    """Kernels are rounded to float16; everything else is unchanged, and the loaded model computes in float32."""
    model = create("unet", "test_resnet", num_classes=3).eval()
    full = save(model, tmp_path / "full")
    path = save(model, f"{tmp_path}/half/" if folder else tmp_path / "half", half=True)
    assert path.stat().st_size < 0.55 * full.stat().st_size
    again = load(path)
    for name, tensor in model.state_dict().items():
        loaded = again.state_dict()[name]
        assert loaded.dtype == tensor.dtype, name
        assert loaded.equal(tensor.half().float() if tensor.ndim > 1 else tensor), name
    assert again.mean.dtype == again.std.dtype == torch.float32
    assert torch.equal(again.mean, model.mean) and torch.equal(again.std, model.std)
    image = torch.randint(0, 256, (1, 40, 50, 3), dtype=torch.uint8)
    logits = again(again.normalize(image))
    assert logits.dtype == torch.float32
    assert (logits - model(model.normalize(image))).abs().max() < 1e-2 * logits.abs().max()
    first, second = (load_file(file) for file in (path, save(again, tmp_path / "twice", half=True)))
    assert all(first[name].dtype == second[name].dtype and first[name].equal(second[name]) for name in first)


def test_values_beyond_float16_are_rejected(tmp_path: Path) -> None:
    model = create("unet", "test_resnet", num_classes=3)
    with torch.no_grad():
        model.decoder.head.weight[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"decoder\.head\.weight holds values beyond float16"):
        save(model, tmp_path / "half", half=True)
    assert list(tmp_path.iterdir()) == []


def test_a_model_in_half_precision_is_saved_and_loaded(tmp_path: Path) -> None:
    model = tiny().half()
    again = load(save(model, tmp_path / "m"))
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.float() if tensor.is_floating_point() else tensor), name
    assert again.mean.dtype == torch.float32
    assert torch.equal(again.mean, model.mean) and torch.equal(again.std, model.std)


def test_loading_initializes_nothing(tmp_path: Path) -> None:
    path = save(create("segnet", num_classes=3, encoder="vgg11_bn"), tmp_path / "m")
    before = torch.get_rng_state()
    model = load(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])
    create("segnet", num_classes=3, encoder="vgg11_bn")
    assert not torch.equal(torch.get_rng_state(), before)  # so the check above can fail


def test_a_loaded_model_trains(tmp_path: Path) -> None:
    model = load(save(tiny(), tmp_path / "m")).train()
    model(torch.randn(2, 3, 33, 47)).square().mean().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()


# Damaged and foreign files


def rewrite(path: Path, **changes: object) -> None:
    """Changes fields of the spec in the header, but no weights."""
    tensors = load_file(path)
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]
    header.update({f"segzoo.{key}": json.dumps(value) for key, value in changes.items()})
    save_file(tensors, path, header)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": "unet2"}, "cannot build: Unknown decoder 'unet2'"),
        ({"encoder": "resnet1O1"}, "cannot build: Unknown encoder"),
        ({"options": {"future": 1}}, "Unknown option 'future'"),
        ({"options": 3}, "is damaged .*: options must be an object, not 3"),
        ({"options": {"decoder_channels": "wide"}}, "cannot build: decoder_channels= of 'unet' must be"),
        ({"classes": ClassSet.generic(4).to_dict()}, r"does not hold the model it describes: it has decoder\.head"),
        ({"classes": {"names": ["a"]}}, "is damaged .*: A class set needs"),
        ({"classes": ClassSet.generic(1).to_dict()}, "cannot build: num_classes must be at least 2"),
        ({"in_channels": "many"}, "is damaged .*: in_channels must be a whole number"),
        ({"in_channels": 0, "mean": [], "std": []}, "is damaged .*: in_channels must be 1 or more, not 0"),
        (
            {"decoder": "paper/unet", "encoder": None, "in_channels": 17, "mean": [0.5] * 17, "std": [0.5] * 17},
            "1 to 16",
        ),
        ({"output_stride": 0}, "is damaged .*: output_stride must be 1 or more, not 0"),
        (
            {"task": "binary", "classes": ClassSet.generic(2).to_dict()},
            "cannot build: .* is a binary model .* Update segzoo",
        ),
        ({"input_dtype": "uint16"}, "cannot build: .* for uint16 images.* Update segzoo"),
        ({"mean": None}, "is damaged .*: mean must be a list of numbers"),
        ({"mean": [], "std": []}, "cannot build: mean and std are missing"),
        ({"encoder": "resnet18"}, r"does not hold the model it describes: it lacks .* more\."),
        ({"in_channels": 4}, "mean and std must be 4 finite numbers each"),
        ({"in_channels": 4, "mean": [0.5] * 4, "std": [0.5] * 4}, r"has encoder.* as \("),
        ({"std": [0.2, 0.2, 0]}, "std must be above 0"),
    ],
)
def test_a_spec_that_does_not_fit(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "m")
    rewrite(path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(path)


@pytest.mark.parametrize("keep", [4, 8, 100, 3000, -1])
def test_truncated(keep: int, tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "m")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="not a complete"):
        load(path)


def test_foreign_and_missing_files(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"segzoo\.save did not write it"):
        load(tmp_path / "a.safetensors")
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"segzoo\.convert"):
        load(tmp_path / "a.pth")
    for missing in (tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="No file"):
            load(missing)


def test_a_failed_save_leaves_the_existing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tiny(), tmp_path / "m")
    good = path.read_bytes()

    def fails(tensors: object, target: str, metadata: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("segzoo.weights.checkpoint.save_file", fails)
    with pytest.raises(CheckpointError, match="No space left"):
        save(tiny(), path)
    assert path.read_bytes() == good
    assert os.listdir(tmp_path) == ["m.safetensors"]
    with pytest.raises(CheckpointError, match="Cannot write"):
        save(tiny(), tmp_path / "no such folder" / "m")


def test_one_exception_type_covers_all() -> None:
    with pytest.raises(SegzooError):
        create("u-net")


def test_a_class_set_of_the_users() -> None:
    custom = ClassSet(("road", "rest"), ((0, 0, 0), (255, 255, 255)))
    assert tiny(num_classes=None, classes=custom).classes == custom


def test_build_keeps_the_specs_normalization() -> None:
    spec = tiny().spec
    assert build(spec).spec == spec
    changed = spec.replace(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert build(changed).spec == changed
    assert build(spec.replace(mean=(), std=())).spec == spec
    paper = create("paper/segnet_basic").spec
    assert build(paper).spec == paper
    changed = paper.replace(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert build(changed).spec == changed
