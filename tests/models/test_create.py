"""create, save, load: names that fail well, and files that rebuild themselves."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from segzoo import create, export, list_models, load, save
from segzoo.classes import LABEL_SETS, LabelSet
from segzoo.errors import CheckpointError, ExportError, OptionError, PairingError, SegzooError, UnknownNameError
from segzoo.models.create import with_classes
from segzoo.models.decoders import DECODERS
from segzoo.models.papers import PAPERS


def tiny(**options: object):
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
        ({"decoder": "unet", "labels": "camvit"}, "camvid"),
        ({"decoder": "unet", "labels": "camvid", "num_classes": 5}, "num_classes=5, but the label set names 11"),
        ({"decoder": "unet", "num_classes": 1}, "at least 2"),
    ],
)
def test_names_that_are_not_known(arguments: dict[str, object], message: str) -> None:
    with pytest.raises((UnknownNameError, OptionError), match=message):
        create(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("unet", 11), "encoder is a name"),
        ((None,), "decoder is a name"),
        ((["unet"],), "decoder is a name"),
        (("unet", ""), "Unknown encoder"),
        (("unet", None, "11"), "num_classes is a whole number, not '11'"),
        (("unet", None, 2.5), "num_classes is a whole number"),
        ({"in_channels": "3"}, "in_channels is a whole number"),
        ({"in_channels": 0}, "1 to 16, not 0"),
        ({"labels": ["a", "b"]}, "label set or a segzoo.LabelSet"),
        ({"encoder_weights": True}, "encoder_weights is None"),
        ({"width": -3}, "at least 1"),
        ({"width": "8"}, "width= of 'unet' is int | tuple[int, ...] | None, not '8'"),
        ({"width": True}, "not True"),
        ({"width": (8, "8")}, "not (8, '8')"),
        ({"width": ()}, "width has 1 to 4 numbers"),
        ({"width": (8,) * 5}, "width has 1 to 4 numbers"),
        ({"width": (8, 0)}, "each at least 1"),
        ({"kernel": 2}, "odd"),
        ({"bridge": "conv"}, "Did you mean 'convs'"),
        ({"upsample": "unpool", "narrow": False}, "needs narrow=True"),
        ({"upsample": "unpool", "join_full_size": False}, "at level 0 too"),
        ({"output_stride": 0}, "not 0"),
        ({"output_stride": "16"}, "whole number, not '16'"),
    ],
)
def test_values_that_cannot_be(arguments: tuple[object, ...] | dict[str, object], message: str) -> None:
    with pytest.raises((OptionError, UnknownNameError, PairingError)) as caught:
        create(*arguments) if isinstance(arguments, tuple) else create("unet", **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("hidden", [5, "ab", (-3, 8), (4, 16), (3,)])
@pytest.mark.parametrize("decoder", ["fcn8s", "deconvnet"])
def test_hidden_layers_that_cannot_be(decoder: str, hidden: object) -> None:
    with pytest.raises(OptionError, match="hidden"):
        create(decoder, encoder="test_resnet", hidden=hidden)


def test_numpys_integers_are_integers(tmp_path: Path) -> None:
    assert load(save(tiny(num_classes=np.int64(3)), tmp_path / "m")).config.num_classes == 3


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
def test_pairings_that_do_not_work_name_one_that_does(decoder: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(PairingError, match=message):
        create(decoder, **options)


def test_every_decoder_works_with_the_encoder_it_names() -> None:
    for name, kind in DECODERS.items():
        with torch.device("meta"):
            assert create(name).config.encoder == kind.encoder


def test_defaults() -> None:
    assert list_models() == [*DECODERS, *PAPERS]
    with torch.device("meta"):
        assert create("unet").config.num_classes == 21
        model = create("unet", labels="camvid")
    assert model.config.num_classes == 11
    assert model.labels is LABEL_SETS["camvid"]
    assert model.training


# save and load


@torch.inference_mode()
@pytest.mark.parametrize(
    ("decoder", "options"),
    [
        ("unet", {"upsample": "bilinear", "width": 8}),
        ("unet", {"width": (16, 8, 8, 8, 4), "narrow": False, "bridge": "convs", "kernel": 3}),
        ("fcn", {"auxiliary": True, "output_stride": 16}),
        ("fcn8s", {"hidden": (3, 8)}),
        ("segnet", {"in_channels": 4}),
        ("unet", {"encoder": "swin_tiny_patch4_window7_224"}),  # has buffers that no file holds
    ],
)
def test_a_file_rebuilds_the_model(decoder: str, options: dict[str, object], tmp_path: Path) -> None:
    model = create(decoder, **{"encoder": "test_resnet", "labels": "camvid", **options}).eval()
    model.with_info(trained_on="nothing", metrics={"mean_iu": 0.5})
    path = save(model, tmp_path / "model")
    assert path == tmp_path / "model.safetensors"
    assert os.listdir(tmp_path) == ["model.safetensors"]
    again = load(path)
    assert not again.training
    assert json.loads(json.dumps(again.config.options)) == json.loads(json.dumps(model.config.options))
    assert again.config.info == {"trained_on": "nothing", "metrics": {"mean_iu": 0.5}}
    assert again.labels == LABEL_SETS["camvid"]
    assert (again.mean, again.std) == (model.mean, model.std)
    image = torch.randn(1, model.config.in_channels, 33, 47)
    assert torch.equal(again(image), model(image))


def test_normalisation_comes_from_the_file(tmp_path: Path) -> None:
    model = tiny()
    model.mean = (0.1, 0.2, 0.3)
    assert load(save(model, tmp_path / "m")).mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("folder", [False, True])
def test_half_the_size_is_the_same_model(folder: bool, tmp_path: Path) -> None:
    """Kernels are rounded to float16; all else is bit for bit, and everything computes in float32."""
    model = create("unet", "test_resnet", num_classes=3).eval()
    whole = save(model, tmp_path / "whole")
    path = save(model, f"{tmp_path}/half/" if folder else tmp_path / "half", half=True)
    assert path.stat().st_size < 0.55 * whole.stat().st_size
    again = load(path)
    for name, tensor in model.state_dict().items():
        found = again.state_dict()[name]
        assert found.dtype == tensor.dtype, name
        assert found.equal(tensor.half().float() if tensor.ndim > 1 else tensor), name
    image = torch.randint(0, 256, (1, 40, 50, 3), dtype=torch.uint8)
    logits = again(again.normalise(image))
    assert logits.dtype == torch.float32
    assert (logits - model(model.normalise(image))).abs().max() < 1e-2 * logits.abs().max()
    first, second = (load_file(one) for one in (path, save(again, tmp_path / "twice", half=True)))
    assert all(first[name].dtype == second[name].dtype and first[name].equal(second[name]) for name in first)


def test_what_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    model = create("unet", "test_resnet", num_classes=3)
    with torch.no_grad():
        model.decoder.score.weight[0, 0] = 1e6
    with pytest.raises(CheckpointError, match=r"decoder\.score\.weight holds values beyond float16"):
        save(model, tmp_path / "half", half=True)
    assert list(tmp_path.iterdir()) == []


def test_loading_initialises_nothing(tmp_path: Path) -> None:
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


# Other classes


@pytest.mark.parametrize("decoder", DECODERS)
def test_another_number_of_classes_keeps_everything_but_the_head(decoder: str, tmp_path: Path) -> None:
    options = {"upsample": "transposed"} if "transposed" in getattr(DECODERS[decoder], "upsamples", ()) else {}
    model = create(decoder, encoder="test_resnet", num_classes=5, **options)
    model.mean = (0.1, 0.2, 0.3)
    path = save(model.with_info(licence="CC0"), tmp_path / "m")
    again = load(path, num_classes=3)
    old, new = model.state_dict(), again.state_dict()
    changed = {name for name in old if old[name].shape != new[name].shape}
    assert changed == {name for name in old if 5 in old[name].shape}
    assert all(torch.equal(old[name], new[name]) for name in old if name not in changed)
    assert again.labels == LabelSet.generic(3) and again.mean == (0.1, 0.2, 0.3)
    assert again.config.info == {"started_from": {"licence": "CC0", "num_classes": 5}}
    assert not again.training
    assert again(torch.randn(1, 3, 33, 47)).shape == (1, 3, 33, 47)
    rewritten = load(save(again, tmp_path / "n"))
    assert (rewritten.config.num_classes, rewritten.config.info) == (3, again.config.info)


PHOTO = np.zeros((33, 47, 3), np.uint8)


def test_a_new_head_warns_once_unless_it_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tiny(num_classes=5), tmp_path / "m")
    load(path, num_classes=5).predict(PHOTO)  # the file's own head: a warning would fail the test
    model = load(path, num_classes=3)
    with pytest.warns(UserWarning, match="head for 3 classes is new, and its weights are random") as said:
        model.predict([PHOTO, PHOTO])
        model.predict(PHOTO)
    assert len(said) == 1
    trained = load(path, num_classes=3).train()
    trained(torch.randn(2, 3, 33, 47)).square().mean().backward()
    torch.optim.SGD(trained.parameters(), 0.1).step()
    trained.predict(PHOTO)

    def stop(*_: object) -> None:
        raise ExportError("Enough.")

    monkeypatch.setattr("segzoo.exporting.export._prove_graph", stop)
    with pytest.warns(UserWarning, match="its weights are random"), pytest.raises(ExportError, match="Enough"):
        export(load(path, num_classes=3), tmp_path / "a.onnx")


@pytest.mark.parametrize("name", ["paper/conv_deconv", "paper/segnet_basic"])
def test_a_new_head_of_a_papers_network_is_known_too(name: str) -> None:
    model = with_classes(create(name), 3)
    with pytest.warns(UserWarning, match="head for 3 classes is new"):
        model.warn_of_new_head()


def test_the_same_number_of_classes_keeps_the_head(tmp_path: Path) -> None:
    model = tiny(num_classes=11)
    path = save(model, tmp_path / "m")
    for arguments in ({"num_classes": 11}, {"labels": "camvid"}, {"num_classes": 11, "labels": "camvid"}):
        again = load(path, **arguments)
        assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())
        assert again.labels == (LABEL_SETS["camvid"] if "labels" in arguments else LabelSet.generic(11))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "at least 2"),
        ({"num_classes": "3"}, "whole number"),
        ({"labels": "camvid"}, r"for 3 classes, and the label set names 11\. num_classes=11 gives"),
        ({"labels": "camvid", "num_classes": 4}, "names 11 classes"),
        ({"labels": "camvit"}, "Did you mean 'camvid'"),
        ({"labels": 3}, "name of a label set"),
    ],
)
def test_other_classes_that_cannot_be(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "m")
    with pytest.raises((OptionError, UnknownNameError), match=message):
        load(path, **arguments)


def rewrite(path: Path, **changes: object) -> None:
    """Changes values of the record in the header, weights untouched."""
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
        ({"options": 3}, "cannot build"),
        ({"options": {"width": "wide"}}, "cannot build"),
        ({"num_classes": 4}, "cannot build|does not hold"),
        ({"labels": {"names": ["a"]}}, "cannot build"),
        ({"in_channels": "many"}, "cannot build"),
        ({"output_stride": 0}, "cannot build"),
        ({"mean": None}, "cannot build"),
        ({"encoder": "resnet18"}, r"does not hold the model it describes: it lacks .* more\."),
        ({"in_channels": 4}, "mean and std are 4 numbers each"),
        ({"in_channels": 4, "mean": [0.5] * 4, "std": [0.5] * 4}, r"has encoder.* as \("),
        ({"std": [0.2, 0.2, 0]}, "std above 0"),
        ({"num_classes": -1}, "cannot build"),
    ],
)
def test_a_record_that_does_not_fit(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "m")
    rewrite(path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(path)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 3000, -1])
def test_truncated(keep: int, tmp_path: Path) -> None:
    path = save(tiny(), tmp_path / "m")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="not a whole"):
        load(path)


def test_foreign_and_absent(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"segzoo\.save did not write it"):
        load(tmp_path / "a.safetensors")
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"segzoo\.convert"):
        load(tmp_path / "a.pth")
    for absent in (tmp_path / "absent.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match="No file"):
            load(absent)


def test_saving_never_breaks_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tiny(), tmp_path / "m")
    good = path.read_bytes()

    def dies(tensors: object, target: str, record: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("segzoo.weights.checkpoint.save_file", dies)
    with pytest.raises(CheckpointError, match="No space left"):
        save(tiny(), path)
    assert path.read_bytes() == good
    assert os.listdir(tmp_path) == ["m.safetensors"]
    with pytest.raises(CheckpointError, match="Cannot write"):
        save(tiny(), tmp_path / "no such folder" / "m")


def test_one_except_is_enough() -> None:
    with pytest.raises(SegzooError):
        create("u-net")


def test_labels_of_ones_own() -> None:
    own = LabelSet(("road", "rest"), ((0, 0, 0), (255, 255, 255)))
    assert tiny(num_classes=None, labels=own).labels == own
