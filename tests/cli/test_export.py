"""`segzoo export`."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import segzoo
from segzoo.inference import Session
from segzoo.weights.resolve import Located


def test_it_writes_a_file_that_runs(exported, photos):
    done, path = exported
    assert done.exit_code == 0, done.stderr
    assert Session(path, device="cpu").predict(photos / "one.jpg").shape == (37, 50)


def test_it_says_what_it_wrote_and_how_to_run_it(exported):
    done, path = exported
    for fact in ("parameters", "size", "opset", "export time", "logits differ by", "same label", "proved on"):
        assert re.search(rf"^{fact} +\S", done.stdout, re.MULTILINE), fact
    assert f'Session("{path}", device="auto")' in done.stdout


def test_it_says_once_that_the_weights_are_random(exported):
    assert exported[0].stderr.count("weights are random") == 1


def test_progress_is_lines_on_stderr_where_there_is_no_terminal(exported):
    lines = exported[0].stderr.splitlines()
    assert "tracing ..." in lines and any(line.startswith("proving 8/8") for line in lines)
    assert "\x1b" not in exported[0].output


def test_an_existing_file_is_kept_before_anything_is_built(segzoo_, exported):
    _, path = exported
    before = path.read_bytes()
    done = segzoo_("export", "unet", "--encoder", "test_resnet", "-o", path.with_suffix(""))
    assert done.exit_code == 1
    assert done.stderr == f"Error: {path} exists. Pass --force to replace it, or another name with -o.\n"
    assert path.read_bytes() == before


@pytest.fixture
def quick(monkeypatch):
    """An export that writes a word and proves nothing; returns what it was called with."""
    proof = SimpleNamespace(cases=(), logits_difference=1e-7, label_agreement=1.0, unpooling=False)
    calls = []

    def export(model, path, **options):
        calls.append((model, options))
        path.write_text("graph")
        kept = {name: options[name] for name in ("opset", "precision")}
        return SimpleNamespace(path=path, size=5, seconds=0.1, proof=proof, quantisation=None, **kept)

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
    config = quick[0][0].config
    assert (config.num_classes, config.in_channels, config.encoder) == (11, 3, None)
    assert "no encoder" in segzoo_("export", "paper/segnet_basic", "--encoder", "resnet18").stderr


def test_a_folder_gets_the_default_name(segzoo_, quick, checkpoint, tmp_path):
    done = segzoo_("export", checkpoint, "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "small.onnx").is_file()
    assert "random" not in done.stderr
    assert quick[0][0].labels.names[0] == "Sky"


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("fcn/resnet101/coco-voc", "fcn-resnet101-coco-voc.onnx"),
        ("hf://jane/street.v2@9c1f", "jane-street.v2.onnx"),
        ("hf://jane/street/small.safetensors", "jane-street-small.onnx"),
    ],
)
def test_weights_by_name_are_exported(segzoo_, quick, checkpoint, tmp_path, monkeypatch, source, written):
    asked = []
    monkeypatch.setattr("segzoo.cli.files.find", lambda place: asked.append(place) or Located(checkpoint))
    done = segzoo_("export", source, "-o", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert asked == [source] and (tmp_path / written).is_file()
    assert segzoo_("export", source, "--classes", 21).exit_code == 2


def test_a_folder_of_save_is_exported(segzoo_, quick, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    segzoo.save(segzoo.load(checkpoint), "street/")
    done = segzoo_("export", "street")
    assert done.exit_code == 0, done.stderr
    assert Path("street.onnx").is_file() and quick[0][0].labels.names[0] == "Sky"


def test_a_name_without_an_ending_gets_one_and_another_ending_is_refused(segzoo_, quick, checkpoint, tmp_path):
    done = segzoo_("export", checkpoint, "-o", tmp_path / "street")
    assert done.exit_code == 0 and f"Wrote {tmp_path / 'street.onnx'}" in done.stdout
    done = segzoo_("export", checkpoint, "-o", tmp_path / "street.txt")
    assert done.exit_code == 1 and "street.txt ends in .txt, and the file to write is .onnx. Name it" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["street.onnx"]


def test_options_reach_the_model(segzoo_, quick, tmp_path):
    words = "export fcn --encoder test_resnet --labels camvid --channels 4 --output-stride 16 --auxiliary --io tensor"
    done = segzoo_(*words.split(), "--opset", 20, "-o", tmp_path / "a.onnx")
    assert done.exit_code == 0, done.stderr
    model, options = quick[0]
    config = model.config
    assert (config.num_classes, config.in_channels, config.output_stride) == (11, 4, 16)
    assert (options["io"], options["opset"], options["precision"], options["fixed"]) == ("tensor", 20, "fp32", None)
    assert config.options == {"auxiliary": True}
    assert "run_tensor" in done.stdout


def test_options_reach_the_file(segzoo_, quick, photos, tmp_path):
    words = "export unet --encoder test_resnet --precision int8 --scores --logits --fixed 1,64,96"
    done = segzoo_(*words.split(), "--calibration", photos, "-o", tmp_path / "a.onnx")
    assert done.exit_code == 0, done.stderr
    options = quick[0][1]
    assert (options["precision"], options["fixed"]) == ("int8", (1, 64, 96))
    assert options["scores"] and options["logits"]
    assert photos / "one.jpg" in options["calibration"]
    wrong = segzoo_("export", "unet", "--fixed", "512x512")
    assert wrong.exit_code == 2 and "1,512,512" in wrong.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("unte", "Did you mean 'unet'"),
        ("unet --encoder resnet1O1", "Did you mean 'resnet101'"),
        ("unet --output-stride 8", "works at output_stride 32"),
        ("unet --labels cmavid", "Did you mean 'camvid'"),
        ("fcn --encoder test_resnet --upsample bilinear", "upsample"),
        ("unet --encoder test_resnet --encoder-weights missing.pth", "No file missing.pth"),
        ("unet -o missing/a.onnx", "There is no folder missing"),
        ("missing.safetensors", "There is no file missing.safetensors"),
    ],
)
def test_what_cannot_be_is_an_error_with_advice(segzoo_, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    done = segzoo_("export", *words.split())
    assert done.exit_code == 1, done.output
    assert said in done.stderr.splitlines()[-1] and done.stderr.splitlines()[-1].startswith("Error: ")
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_a_file_would_ignore_is_refused(segzoo_, checkpoint):
    done = segzoo_("export", checkpoint, "--classes", 21)
    assert done.exit_code == 2
    assert "--classes goes with a decoder by name" in re.sub(r"[\s\u2502]+", " ", done.stderr)


def test_an_exported_file_is_not_exported_again(segzoo_, exported):
    assert "is an exported file already" in segzoo_("export", exported[1]).stderr


def test_a_mistyped_key_gets_near_ones(segzoo_):
    done = segzoo_("export", "unet/mobilenetv4_conv_smal/camvid")
    assert done.exit_code == 1 and "Did you mean 'unet/mobilenetv4_conv_small/camvid'" in done.stderr
