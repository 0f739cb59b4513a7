"""`segzoo convert`: another library's checkpoint becomes a segzoo file, or is refused with a message."""

import re
from pathlib import Path

import caffe_networks
import pytest
import segmentation_models_pytorch as smp
import torch
from originals import close, shaken

import segzoo
from segzoo.weights.convert.caffe import convert_caffe
from segzoo.weights.convert.caffemodel import read_caffemodel


@pytest.fixture(scope="module")
def original() -> torch.nn.Module:
    torch.manual_seed(0)
    return shaken(smp.Unet("tu-test_resnet", encoder_weights=None, classes=11))


@pytest.fixture
def folder(original: torch.nn.Module, tmp_path: Path) -> Path:
    original.save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


@torch.inference_mode()
def test_a_folder_becomes_a_file_with_the_same_logits(segzoo_, folder, original, tmp_path):
    path = tmp_path / "street.safetensors"
    done = segzoo_("convert", folder, "-o", path, "--classes", "camvid")
    assert done.exit_code == 0, done.stderr
    assert f"Wrote {path}" in done.stdout
    assert re.search(r"from +segmentation-models-pytorch Unet on tu-test_resnet", done.stdout)
    model = segzoo.load(path)
    assert model.classes.names[0] == "Sky"
    image = torch.randn(1, 3, 64, 64)
    close(model(image), original(image))
    assert re.search(r"converted from +segmentation-models-pytorch", segzoo_("info", path).stdout)


def test_class_names_come_from_a_file(segzoo_, folder, tmp_path):
    names = [f"name {index}" for index in range(11)]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    done = segzoo_("convert", folder, "-o", tmp_path / "a.safetensors", "--classes", tmp_path / "labels.txt")
    assert done.exit_code == 0, done.stderr
    assert segzoo.load(tmp_path / "a.safetensors").classes.names == tuple(names)
    (tmp_path / "labels.txt").write_text("\n".join(names[:9]))
    done = segzoo_("convert", folder, "-o", tmp_path / "b.safetensors", "--classes", tmp_path / "labels.txt")
    assert done.exit_code == 1 and "The weights are for 11 classes, and the class set names 9." in done.stderr


def test_every_option_takes_effect(segzoo_, original, tmp_path):
    torch.save({**original.state_dict(), "extra": torch.ones(1)}, tmp_path / "w.pth")
    words = ("convert", tmp_path / "w.pth", "-o", tmp_path / "new", "--source", "smp", "--encoder", "tu-test_resnet")
    assert "Left over: extra." in segzoo_(*words).stderr
    done = segzoo_(*words, "--upsample", "bilinear", "--num-classes", 5, "--no-strict")
    assert done.exit_code == 0, done.stderr
    assert "Left over: extra." in done.stderr and "The head is new" in done.stderr
    model = segzoo.load(tmp_path / "new.safetensors")
    assert (model.spec.num_classes, model.spec.options["upsample"]) == (5, "bilinear")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--source", "keras"), "Unknown source 'keras'"),
        (("--classes", "camvit"), "Did you mean 'camvid'"),
        (("--classes", "voc"), "names 21"),
        (("--encoder", "tu-resnet18"), "Missing: encoder.net."),
    ],
)
def test_a_mistake_writes_nothing(segzoo_, folder, tmp_path, words, message):
    done = segzoo_("convert", folder, "-o", tmp_path / "new.safetensors", *words)
    assert done.exit_code == 1
    assert message in done.stderr
    assert not (tmp_path / "new.safetensors").exists()


def test_an_existing_file_is_replaced_only_with_force(segzoo_, folder, tmp_path):
    path = tmp_path / "new.safetensors"
    path.write_bytes(b"precious")
    assert "Pass --force" in segzoo_("convert", folder, "-o", path).stderr
    assert path.read_bytes() == b"precious"
    assert segzoo_("convert", folder, "-o", path, "--force").exit_code == 0
    assert segzoo.load(path).spec.decoder == "unet"


def test_a_missing_folder_is_named(segzoo_, folder, tmp_path):
    assert "There is no folder" in segzoo_("convert", folder, "-o", tmp_path / "no" / "new").stderr


@pytest.fixture
def caffemodel(tmp_path: Path) -> Path:
    net = caffe_networks.segnet_basic()
    (tmp_path / "net.caffemodel").write_bytes(net.caffemodel(net.arrays(seed=3), "v2"))
    return tmp_path / "net.caffemodel"


def test_a_caffemodel_becomes_the_papers_network(segzoo_, caffemodel, tmp_path):
    done = segzoo_("convert", caffemodel, "-o", tmp_path / "net", "--classes", "camvid")
    assert done.exit_code == 0, done.stderr
    assert re.search(r"from +Caffe, segnet_basic", done.stdout)
    assert re.search(r"network +paper/segnet_basic", done.stdout) and "encoder" not in done.stdout
    assert "CC BY-NC 4.0" in done.stderr and "folded into scale and shift" in done.stderr
    model = segzoo.load(tmp_path / "net.safetensors")
    assert (model.classes.names[0], model.channel_order) == ("Sky", "BGR")
    expected = convert_caffe(read_caffemodel(caffemodel)).tensors
    state = model.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize("option", [("--source", "smp"), ("--encoder", "vgg16"), ("--upsample", "nearest")])
def test_a_caffemodel_needs_no_options(segzoo_, caffemodel, tmp_path, option):
    done = segzoo_("convert", caffemodel, "-o", tmp_path / "net", *option)
    assert done.exit_code == 1
    assert f"it takes no {option[0].removeprefix('--')}=" in done.stderr
    assert not (tmp_path / "net.safetensors").exists()
