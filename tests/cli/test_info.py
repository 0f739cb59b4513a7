"""`segzoo info` on names and on files."""

import hashlib
import inspect
import json
import re

import onnx
import pytest
from safetensors import safe_open

from segzoo.models.decoders import DECODERS
from segzoo.models.papers import PAPERS
from segzoo.weights import cache
from segzoo.weights.catalog import entries


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_shows_its_paper_and_every_option(segzoo_, name):
    done = segzoo_("info", name)
    assert done.exit_code == 0, done.stderr
    assert re.search(r"Differences from the paper", done.stdout)
    for option in inspect.signature(DECODERS[name]).parameters.values():
        if option.kind is option.KEYWORD_ONLY:
            line = re.search(rf"^{option.name} +(\S+)", done.stdout, re.MULTILINE)
            assert line and line[1] == repr(option.default)


@pytest.mark.parametrize("name", PAPERS)
def test_a_papers_network_shows_its_input(segzoo_, name):
    done = segzoo_("info", name)
    assert done.exit_code == 0, done.stderr
    mean = ", ".join(f"{value:g}" for value in PAPERS[name].pixel_mean[: PAPERS[name].default_in_channels])
    assert re.search(rf"^mean +{re.escape(mean)} *$", done.stdout, re.MULTILINE)
    assert PAPERS[name].paper.partition(":")[0] in done.stdout


def test_a_list_in_a_docstring_stays_a_list(segzoo_):
    shown = segzoo_("info", "paper/conv_deconv").stdout
    assert "with 2 classes, 1 channel in" in shown
    assert re.findall(r"^- (\w+ \w+)", shown, re.MULTILINE) == ["Class scores", "No batch", "The original"]


def test_parameter_counts_are_those_of_the_papers(segzoo_):
    assert "251,805,653 on vgg16_bn, 21 classes" in segzoo_("info", "deconvnet").stdout


def test_a_documented_option_has_its_meaning(segzoo_):
    meaning = re.search(r"^ *upsample: (.{20})", DECODERS["unet"].__doc__, re.MULTILINE)[1]
    text = segzoo_("info", "unet").stdout
    assert re.search(rf"^upsample +'upconv' +{re.escape(meaning)}", text, re.MULTILINE)


def test_unet_is_a_decoder_and_an_encoder(segzoo_):
    text = segzoo_("info", "unet").stdout
    assert "Decoder unet\n" in text and "Encoder unet\n" in text


@pytest.mark.usefixtures("own_registries")
def test_a_decoder_of_ones_own_is_described_from_its_class(segzoo_):
    from torch import nn

    import segzoo

    @segzoo.register_decoder("test_resnet", default_encoder="test_resnet")
    class Mine(segzoo.Decoder):
        """A decoder with the name of an encoder.

        Args:
            bias: whether the `head` has one.
        """

        def __init__(self, features, num_classes, *, bias=True):
            super().__init__(features, num_classes)
            self.head = nn.Conv2d(features.channels[-1], num_classes, 1, bias=bias)

        def forward(self, maps):
            return self.head(maps[-1])

    done = segzoo_("info", "test_resnet")
    assert done.exit_code == 0, done.stderr
    assert "Decoder test_resnet\n" in done.stdout and "\nEncoder test_resnet\n" in done.stdout
    assert re.search(r"^bias +True +whether the head has one\.$", done.stdout, re.MULTILINE)
    model = segzoo.create("test_resnet")
    counts = [sum(p.numel() for p in module.parameters()) for module in (model, model.decoder)]
    assert "{:,} on test_resnet, 21 classes; decoder alone {:,}".format(*counts) in done.stdout
    assert re.search(r"^test_resnet +test_resnet +32 +any +-$", segzoo_("list").stdout, re.MULTILINE)


def test_an_encoder_shows_its_levels_and_strides(segzoo_):
    text = segzoo_("info", "test_resnet").stdout
    assert re.search(r"output strides +32, 16, 8 ", text)
    assert re.search(r"^ +5 +\d+ +32 *$", text, re.MULTILINE)


def test_an_encoder_without_dilation_has_one_output_stride(segzoo_):
    assert re.search(r"output strides +32 \(", segzoo_("info", "swin_tiny_patch4_window7_224").stdout)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet1O1", "Did you mean 'resnet101'"),
        ("segnett", "Did you mean 'segnet'"),
        ("paper/fcn9s", "Did you mean 'paper/fcn8s'"),
        ("vit_base_patch16_224", "forms no pyramid"),
        ("missing.onnx", "There is no file missing.onnx"),
    ],
)
def test_an_unknown_name_is_an_error_with_advice(segzoo_, name, message):
    done = segzoo_("info", name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_an_exported_file_is_described(segzoo_, exported):
    _, path = exported
    done = segzoo_("info", path)
    assert done.exit_code == 0, done.stderr
    text = done.stdout
    assert hashlib.sha256(path.read_bytes()).hexdigest() in text
    assert "unet (upsample='bilinear')" in text and "test_resnet, output stride 32" in text
    assert "image: uint8 (batch, height, width, 3)" in text and "mask: uint8 (batch, height, width)" in text
    assert re.search(r"opset +ai.onnx 18", text)
    assert re.search(r"operators +\d+: Conv \d+, ", text)
    assert re.search(r"^ 1 +class 1 +#800000", text, re.MULTILINE)
    assert len(re.findall(r"^\d+ x \d+ x \d+ +(?:noise|scene) ", text, re.MULTILINE)) == 8


def test_a_checkpoint_is_described(segzoo_, checkpoint):
    text = segzoo_("info", checkpoint).stdout
    assert re.search(r"license +CC0", text)
    assert "11 classes, 11 is ignored" in text and "Bicyclist" in text
    assert re.search(r"parameters +[\d,]{6,}", text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint with the info that a released one holds."""
    import segzoo
    from segzoo.training import recipes
    from segzoo.training.recipe import read_recipe

    info = {
        "recipe": read_recipe(recipes.path("unet_mobilenetv4_conv_small_camvid_first")).to_dict(),
        "trained": {"data": "camvid train", "val_mean_iou": 0.6010133, "seconds": 5716.4},
        "metrics": {"mean_iou": 0.623, "frequency_weighted_iou": 0.8465},
        "metrics_on": "camvid val, 101 images",
        "metrics_by": "segzoo",
        "left_out": ["loss.weight", "loss.bias"],
        "started_from": {"converted_from": "torchvision fcn_resnet50", "num_classes": 21},
    }
    model = segzoo.create("unet", "test_resnet", 2).with_info(**info)
    return segzoo.save(model, tmp_path_factory.mktemp("trained") / "small.safetensors")


def test_info_is_printed_without_python_syntax(segzoo_, trained):
    text = segzoo_("info", trained).stdout
    assert "{'" not in text and "None" not in text and "_iou" not in text and "val_" not in text
    for row in (
        "measured on +camvid val, 101 images, by segzoo",
        "mean IoU +62.30 %",
        "fw IoU +84.65 %",
        "val mean IoU +60.10 %",
        "trained in +95.3 min",
        "left out +loss.weight, loss.bias",
        'started from +converted_from = "torchvision fcn_resnet50", num_classes = 21',
        "run +epochs = 150, batch_size = 8, .*",
        'augmentation +name = "flip"',
    ):
        assert re.search(rf"^{row}$", text, re.MULTILINE), row


def test_metrics_of_the_run_and_of_the_release_are_kept_apart(segzoo_, trained):
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
    assert "is not a complete" in done.stderr and done.stderr.count("\n") == 1


def damage_tensors(source, target, **fields):
    """Copies a .safetensors file with other spec fields; None omits one."""
    from safetensors.numpy import load_file, save_file

    with safe_open(source, framework="numpy") as file:
        pairs = file.metadata() | {f"segzoo.{name}": value for name, value in fields.items()}
    save_file(load_file(source), target, {name: value for name, value in pairs.items() if value is not None})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"encoder": None, "mean": None}, "cannot be read: encoder is missing; mean is missing. If it is damaged"),
        ({"mean": "{"}, "cannot be read: segzoo.mean is not JSON"),
        ({"classes": '{"names": 3}'}, "needs a list under 'names'"),
        ({"format_version": "99"}, "Update segzoo."),
    ],
)
def test_a_damaged_spec_is_one_line(segzoo_, checkpoint, tmp_path, fields, message):
    damage_tensors(checkpoint, tmp_path / "a.safetensors", **fields)
    done = segzoo_("info", tmp_path / "a.safetensors")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"Error: The spec in {tmp_path / 'a.safetensors'} " in done.stderr and message in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: None, "the record segzoo.export is missing."),
        (lambda record: record.pop("opset") and record, "opset is missing."),
        (lambda record: record | {"verification": {}}, "verification lacks 'cases'."),
        (lambda record: record["verification"]["cases"][0].pop("pattern") and record, "verification lacks 'pattern'."),
        (lambda record: record | {"verification": {"cases": 3}}, "not iterable"),
        (lambda record: [3], "not [3]."),
    ],
)
def test_a_damaged_export_spec_is_one_line(segzoo_, exported, tmp_path, change, message):
    model = onnx.load(exported[1])
    pair = next(pair for pair in model.metadata_props if pair.key == "segzoo.export")
    record = change(json.loads(pair.value))
    if record is None:
        model.metadata_props.remove(pair)
    else:
        pair.value = json.dumps(record)
    onnx.save(model, tmp_path / "a.onnx")
    done = segzoo_("info", tmp_path / "a.onnx")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"Error: The spec in {tmp_path / 'a.onnx'} cannot be read: " in done.stderr and message in done.stderr


def test_a_file_of_another_library_is_refused(segzoo_, tmp_path):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors")
    assert "was not written by segzoo" in segzoo_("info", tmp_path / "foreign.safetensors").stderr


@pytest.mark.parametrize("entry", entries().values(), ids=lambda entry: entry.key)
def test_a_catalog_entry_is_described(segzoo_, entry, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_CACHE", str(tmp_path))
    text = segzoo_("info", entry.key).stdout
    for value in (entry.sha256, f"{entry.size:,}", f"{entry.params:,}", entry.data, entry.split, entry.license):
        assert value in text
    assert all(url in text for url in entry.urls)
    if entry.local_path is not None:  # in the package, or in the clone that runs the tests
        assert str(entry.local_path) in "".join(text.split())  # a long path is wrapped
        return
    hints = {
        "web": "not downloaded yet; segzoo.load fetches it",
        "repository": "in the folder weights/ of segzoo's repository",
    }
    assert hints[entry.source] in text
    path = cache.path_for(entry.file, entry.sha256)
    path.parent.mkdir()
    path.touch()
    assert str(path) in "".join(segzoo_("info", entry.key).stdout.split())


def test_a_similar_key_is_suggested(segzoo_):
    done = segzoo_("info", "fcn/resnet101/coco_voc")
    assert done.exit_code == 1 and "Did you mean 'fcn/resnet101/coco-voc'" in done.stderr
