"""`segzoo info` on names and on files."""

import hashlib
import inspect
import re

import pytest

from segzoo.models.decoders import DECODERS
from segzoo.models.papers import PAPERS
from segzoo.weights import cache
from segzoo.weights.catalog import entries, list_weights


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_shows_its_paper_and_every_option(segzoo_, name):
    done = segzoo_("info", name)
    assert done.exit_code == 0, done.stderr
    assert "What differs from the paper" in done.stdout
    for option in inspect.signature(DECODERS[name]).parameters.values():
        if option.kind is option.KEYWORD_ONLY:
            line = re.search(rf"^{option.name} +(\S+)", done.stdout, re.MULTILINE)
            assert line and line[1] == repr(option.default)


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_network_shows_its_input(segzoo_, name):
    done = segzoo_("info", name)
    assert done.exit_code == 0, done.stderr
    mean = ", ".join(f"{value:g}" for value in PAPERS[name].pixel_mean[: PAPERS[name].channels])
    assert re.search(rf"^mean +{re.escape(mean)} *$", done.stdout, re.MULTILINE)
    assert PAPERS[name].paper.partition(":")[0] in done.stdout


def test_what_a_network_takes_and_chooses_stands_line_by_line(segzoo_):
    shown = segzoo_("info", "paper/conv_deconv").stdout
    assert "with 2 classes, 1 channel in" in shown
    assert re.findall(r"^- (\w+ \w+)", shown, re.MULTILINE) == ["Class scores", "No batch", "The original"]


def test_counts_are_those_of_the_papers(segzoo_):
    assert "251,805,653 on vgg16_bn, 21 classes" in segzoo_("info", "deconvnet").stdout


def test_a_documented_option_has_its_meaning(segzoo_):
    assert re.search(r"^upsample +'upconv' +the way up", segzoo_("info", "unet").stdout, re.MULTILINE)


def test_unet_is_a_decoder_and_an_encoder(segzoo_):
    text = segzoo_("info", "unet").stdout
    assert "Decoder unet\n" in text and "Encoder unet\n" in text


def test_an_encoder_shows_its_levels_and_strides(segzoo_):
    text = segzoo_("info", "test_resnet").stdout
    assert re.search(r"output strides +32, 16, 8 ", text)
    assert re.search(r"^ +5 +\d+ +32 *$", text, re.MULTILINE)


def test_an_encoder_that_cannot_be_dilated_says_so(segzoo_):
    assert re.search(r"output strides +32 \(", segzoo_("info", "swin_tiny_patch4_window7_224").stdout)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet1O1", "Did you mean 'resnet101'"),
        ("segnett", "Did you mean 'segnet'"),
        ("vit_base_patch16_224", "forms no pyramid"),
        ("missing.onnx", "There is no file missing.onnx"),
    ],
)
def test_what_is_not_there_is_an_error_with_advice(segzoo_, name, said):
    done = segzoo_("info", name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_an_exported_file_tells_all(segzoo_, exported):
    _, path = exported
    done = segzoo_("info", path)
    assert done.exit_code == 0, done.stderr
    text = done.stdout
    assert hashlib.sha256(path.read_bytes()).hexdigest() in text
    assert "unet (upsample='bilinear')" in text and "test_resnet, output stride 32" in text
    assert "image: uint8 (batch, height, width, 3)" in text and "labels: uint8 (batch, height, width)" in text
    assert re.search(r"opset +ai.onnx 18", text)
    assert re.search(r"operators +\d+: Conv \d+, ", text)
    assert re.search(r"^ 1 +class 1 +#800000", text, re.MULTILINE)
    assert len(re.findall(r"^\d+ x \d+ x \d+ +(?:noise|scene) ", text, re.MULTILINE)) == 8


def test_an_exported_file_needs_no_torch(imports, exported):
    done = imports("info", exported[1])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_checkpoint_needs_no_torch(imports, checkpoint):
    done = imports("info", checkpoint)
    assert (done.returncode, done.stderr) == (0, "")


def test_that_check_can_fail(imports, checkpoint):
    pretend = "import sys, types\nsys.modules['timm'] = types.ModuleType('timm')\n"
    assert "imported: ['timm']" in imports("info", checkpoint, first=pretend).stderr


def test_a_checkpoint_tells_all(segzoo_, checkpoint):
    text = segzoo_("info", checkpoint).stdout
    assert re.search(r"licence +CC0", text)
    assert "11 classes, 11 is ignored" in text and "Bicyclist" in text
    assert re.search(r"parameters +[\d,]{6,}", text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint with all that a released one says of itself."""
    import segzoo
    from segzoo.training import recipes
    from segzoo.training.recipe import read_recipe

    info = {
        "recipe": read_recipe(recipes.path("unet_mobilenetv4_conv_small_camvid_first")).to_dict(),
        "trained": {"data": "camvid train", "val_mean_iu": 0.6010133, "seconds": 5716.4},
        "metrics": {"mean_iou": 0.623, "frequency_weighted_iou": 0.8465},
        "metrics_on": "camvid val, 101 images",
        "metrics_by": "segzoo",
        "left_out": ["loss.weight", "loss.bias"],
        "started_from": {"converted_from": "torchvision fcn_resnet50", "num_classes": 21},
    }
    model = segzoo.create("unet", "test_resnet", 2).with_info(**info)
    return segzoo.save(model, tmp_path_factory.mktemp("trained") / "small.safetensors")


def test_a_record_is_read_without_knowing_python(segzoo_, trained):
    text = segzoo_("info", trained).stdout
    assert "{'" not in text and "None" not in text and "_iou" not in text and "val_" not in text
    for row in (
        "measured on +camvid val, 101 images, by segzoo",
        "mean IU +62.30 %",
        "fw IU +84.65 %",
        "val mean IU +60.10 %",
        "trained in +95.3 min",
        "left out +loss.weight, loss.bias",
        'started from +converted_from = "torchvision fcn_resnet50", num_classes = 21',
        "run +epochs = 150, batch = 8, .*",
        'augmentation +name = "flip"',
    ):
        assert re.search(rf"^{row}$", text, re.MULTILINE), row


def test_figures_of_the_run_and_of_the_release_are_told_apart(segzoo_, trained):
    text = " ".join(segzoo_("info", trained).stdout.split())
    released, run = text.index("Metrics of these weights"), text.index("At the end of training")
    assert released < text.index("62.30 %") < run < text.index("60.10 %") < text.index("Two measurements")


def test_parameters_of_a_checkpoint_are_those_of_the_model(segzoo_, checkpoint):
    import segzoo

    count = sum(p.numel() for p in segzoo.load(checkpoint).parameters())
    assert re.search(rf"parameters +{count:,}\s", segzoo_("info", checkpoint).stdout)


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a model at all", None])
def test_a_broken_file_is_named(segzoo_, exported, checkpoint, tmp_path, suffix, content):
    path = tmp_path / f"broken{suffix}"
    whole = exported[1] if suffix == ".onnx" else checkpoint
    path.write_bytes(whole.read_bytes()[:5000] if content is None else content)
    done = segzoo_("info", path)
    assert done.exit_code == 1
    assert "is not a whole" in done.stderr and done.stderr.count("\n") == 1


def test_a_foreign_file_is_refused(segzoo_, tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors")
    assert "was not written by segzoo" in segzoo_("info", tmp_path / "foreign.safetensors").stderr


@pytest.mark.parametrize("entry", entries().values(), ids=lambda entry: entry.key)
def test_an_entry_of_the_catalog_tells_all(segzoo_, entry, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_CACHE", str(tmp_path))
    text = segzoo_("info", entry.key).stdout
    for said in (entry.sha256, f"{entry.size:,}", f"{entry.params:,}", entry.data, entry.split, entry.licence):
        assert said in text
    assert all(url in text for url in entry.urls)
    if entry.here is not None:  # in the package, or in the clone that the tests run in
        assert str(entry.here) in text
        return
    where = {"web": "not yet: segzoo.load fetches it", "repository": "in the folder weights/ of segzoo's repository"}
    assert where[entry.place] in text
    place = cache.place(entry.file, entry.sha256)
    place.parent.mkdir()
    place.touch()
    assert str(place) in segzoo_("info", entry.key).stdout


def test_an_entry_needs_no_torch(imports):
    done = imports("info", list_weights()[0])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_near_key_is_suggested(segzoo_):
    done = segzoo_("info", "fcn/resnet101/coco_voc")
    assert done.exit_code == 1 and "Did you mean 'fcn/resnet101/coco-voc'" in done.stderr
