"""`segzoo export`."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import segzoo
from segzoo.exporting.onnx.int8 import MIN_INT8_AGREEMENT
from segzoo.inference import Predictor
from segzoo.weights.resolve import Located


def test_it_writes_a_file_that_runs(exported, photos):
    done, path = exported
    assert done.exit_code == 0, done.stderr
    assert Predictor(path, device="cpu").predict(photos / "one.jpg").mask.shape == (37, 50)


def test_it_reports_the_file_and_how_to_run_it(exported):
    done, path = exported
    for row in ("parameters", "size", "opset", "export time", "logits differ by", "same class", "verified on"):
        assert re.search(rf"^{row} +\S", done.stdout, re.MULTILINE), row
    assert f'Predictor("{path}", device="auto")' in done.stdout


def test_it_warns_once_that_the_weights_are_random(exported):
    assert exported[0].stderr.count("weights are random") == 1


def test_progress_is_lines_on_stderr_without_a_terminal(exported):
    lines = exported[0].stderr.splitlines()
    assert "tracing ..." in lines and any(line.startswith("verifying 8/8") for line in lines)
    assert "\x1b" not in exported[0].output


def test_an_existing_file_is_refused_before_the_model_is_built(segzoo_, exported):
    _, path = exported
    before = path.read_bytes()
    done = segzoo_("export", "unet", "--encoder", "test_resnet", "-o", path.with_suffix(""))
    assert done.exit_code == 1
    assert done.stderr == f"Error: {path} exists. Pass --force to replace it, or choose another name with -o.\n"
    assert path.read_bytes() == before


@pytest.fixture
def quick(monkeypatch):
    """Replaces the export by one that writes a word and verifies nothing; returns the calls."""
    verification = SimpleNamespace(cases=(), logits_difference=1e-7, pixel_agreement=1.0, unpooling=False)
    calls = []

    def export(model, path, **options):
        calls.append((model, options))
        path.write_text("graph")
        fields = {name: options[name] for name in ("opset", "precision")}
        return SimpleNamespace(path=path, size=5, seconds=0.1, verification=verification, quantization=None, **fields)

    monkeypatch.setattr("segzoo.exporting.export.export", export)
    return calls


def test_the_default_name_is_decoder_and_encoder(segzoo_, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert segzoo_("export", "fcn8s", "--encoder", "test_resnet").exit_code == 0
    assert (tmp_path / "fcn8s-test_resnet.onnx").is_file()
    again = segzoo_("export", "fcn8s", "--encoder", "test_resnet")
    assert again.exit_code == 1 and "--force" in again.stderr
    assert segzoo_("export", "fcn8s", "--encoder", "test_resnet", "--force").exit_code == 0


def test_a_papers_network_has_its_own_classes_and_channels(segzoo_, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = segzoo_("export", "paper/segnet_basic")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "paper_segnet_basic.onnx").is_file()
    spec = quick[0][0].spec
    assert (spec.num_classes, spec.in_channels, spec.encoder) == (11, 3, None)
    assert "no encoder" in segzoo_("export", "paper/segnet_basic", "--encoder", "resnet18").stderr


def test_a_folder_gets_the_default_name(segzoo_, quick, checkpoint, tmp_path):
    done = segzoo_("export", checkpoint, "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "small.onnx").is_file()
    assert "random" not in done.stderr
    assert quick[0][0].classes.names[0] == "Sky"


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("fcn/resnet101/coco-voc", "fcn-resnet101-coco-voc.onnx"),
        ("hf://jane/street.v2@9c1f", "jane-street.v2.onnx"),
        ("hf://jane/street/small.safetensors", "jane-street-small.onnx"),
    ],
)
def test_weights_by_name_are_exported(segzoo_, quick, checkpoint, tmp_path, monkeypatch, source, written):
    requested = []
    monkeypatch.setattr("segzoo.cli.files.find", lambda name: requested.append(name) or Located(checkpoint))
    done = segzoo_("export", source, "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert requested == [source] and (tmp_path / written).is_file()
    assert segzoo_("export", source, "--num-classes", 21).exit_code == 2


def test_a_folder_of_save_is_exported(segzoo_, quick, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    segzoo.save(segzoo.load(checkpoint), "street/")
    done = segzoo_("export", "street")
    assert done.exit_code == 0, done.stderr
    assert Path("street.onnx").is_file() and quick[0][0].classes.names[0] == "Sky"


def test_a_missing_suffix_is_added_and_another_is_refused(segzoo_, quick, checkpoint, tmp_path):
    done = segzoo_("export", checkpoint, "-o", tmp_path / "street")
    assert done.exit_code == 0 and f"Wrote {tmp_path / 'street.onnx'}" in done.stdout
    done = segzoo_("export", checkpoint, "-o", tmp_path / "street.txt")
    assert done.exit_code == 1 and "street.txt ends in .txt" in done.stderr and "street.onnx" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["street.onnx"]


def test_options_reach_the_model(segzoo_, quick, tmp_path):
    words = (
        "export fcn --encoder test_resnet --classes camvid --channels 4 --output-stride 16 --auxiliary --input tensor"
    )
    done = segzoo_(*words.split(), "--opset", 20, "-o", tmp_path / "a.onnx")
    assert done.exit_code == 0, done.stderr
    model, options = quick[0]
    spec = model.spec
    assert (spec.num_classes, spec.in_channels, spec.output_stride) == (11, 4, 16)
    assert (options["input"], options["opset"], options["precision"], options["static_shape"]) == (
        "tensor",
        20,
        "fp32",
        None,
    )
    assert spec.options == {"auxiliary": True}
    assert "run_tensor" in done.stdout


def test_options_reach_the_file(segzoo_, quick, photos, tmp_path):
    words = "export unet --encoder test_resnet --precision int8 --confidence --logits --static-shape 1,64,96"
    done = segzoo_(*words.split(), "--calibration", photos, "-o", tmp_path / "a.onnx")
    assert done.exit_code == 0, done.stderr
    options = quick[0][1]
    assert (options["precision"], options["static_shape"]) == ("int8", (1, 64, 96))
    assert options["confidence"] and options["logits"]
    assert photos / "one.jpg" in options["calibration"]
    assert options["min_agreement"] == 0.98 == MIN_INT8_AGREEMENT
    wrong = segzoo_("export", "unet", "--static-shape", "512x512")
    assert wrong.exit_code == 2 and "1,512,512" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("unte", "Did you mean 'unet'"),
        ("unet --encoder resnet1O1", "Did you mean 'resnet101'"),
        ("unet --output-stride 8", "works at output_stride 32"),
        ("unet --classes cmavid", "Did you mean 'camvid'"),
        ("fcn --encoder test_resnet --upsample bilinear", "upsample"),
        ("unet --encoder test_resnet --encoder-weights missing.pth", "There is no file missing.pth"),
        ("unet -o missing/a.onnx", "There is no folder missing"),
        ("missing.safetensors", "There is no file missing.safetensors"),
    ],
)
def test_a_mistake_is_an_error_with_advice(segzoo_, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    done = segzoo_("export", *words.split())
    assert done.exit_code == 1, done.output
    assert message in done.stderr.splitlines()[-1] and done.stderr.splitlines()[-1].startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_a_trained_model_would_ignore_is_refused(segzoo_, checkpoint):
    done = segzoo_("export", checkpoint, "--num-classes", 21)
    assert done.exit_code == 2
    assert "--num-classes applies to architectures only" in re.sub(r"[\s\u2502]+", " ", done.stderr)


def test_an_exported_file_is_not_exported_again(segzoo_, exported):
    assert "is already an exported file" in segzoo_("export", exported[1]).stderr


def test_a_mistyped_key_gets_suggestions(segzoo_):
    done = segzoo_("export", "unet/mobilenetv4_conv_smal/camvid")
    assert done.exit_code == 1 and "Did you mean 'unet/mobilenetv4_conv_small/camvid'" in done.stderr


def test_class_names_come_from_a_file(segzoo_, quick, tmp_path):
    (tmp_path / "labels.txt").write_text("sky\nroad, wet\nwater\n")
    (tmp_path / "classes.json").write_text('{"names": ["sky", "road, wet", "water"], "ignore_index": 9}')
    for name, ignore_index in (("labels.txt", None), ("classes.json", 9)):
        done = segzoo_(
            *("export", "fcn", "--encoder", "test_resnet", "--classes", tmp_path / name),
            *("--num-classes", 3, "-o", tmp_path / f"{name}.onnx"),
        )
        assert done.exit_code == 0, done.stderr
        classes = quick[-1][0].classes
        assert (classes.names, classes.ignore_index) == (("sky", "road, wet", "water"), ignore_index)
