"""`segzoo predict`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.cli import predict
from segzoo.inference import Predictor
from segzoo.weights import catalog


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_folder_becomes_a_folder_of_masks(segzoo_, exported, photos, tmp_path):
    done = segzoo_("predict", exported[1], photos, "-o", tmp_path / "masks", "--overlay", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert "Wrote 3 masks and their overlays" in done.stdout
    assert re.search(r"on cpu, because device='cpu' was requested\.", done.stderr)
    session = Predictor(exported[1], device="cpu")
    for name in ("one.jpg", "two.png", "deep/one.gif"):
        with Image.open((tmp_path / "masks" / name).with_suffix(".png")) as mask:
            assert mask.mode == "P"
            assert np.array_equal(np.asarray(mask), session.predict(photos / name))
    with Image.open(tmp_path / "masks" / "one-overlay.jpg") as overlay:
        assert overlay.width >= 50 and overlay.height >= 37
    assert len(files(tmp_path / "masks")) == 6


def test_an_onnx_file_needs_no_torch(imports, exported, photos, tmp_path):
    done = imports("predict", exported[1], photos, "-o", tmp_path / "masks", "--overlay", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "masks")


def test_a_checkpoint_predicts_as_the_model_does(segzoo_, checkpoint, photos, tmp_path):
    done = segzoo_("predict", checkpoint, photos / "one.jpg", "-o", tmp_path, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    expected = segzoo.load(checkpoint).predict(photos / "one.jpg").mask
    assert np.array_equal(pixels(tmp_path / "one.png"), expected)


@pytest.mark.parametrize("model", ["exported", "checkpoint"])
def test_a_missing_gpu_is_an_error(segzoo_, request, model, photos, tmp_path):
    path = request.getfixturevalue(model)
    path = path if model == "checkpoint" else path[1]
    done = segzoo_("predict", path, photos, "-o", tmp_path / "masks", "--device", "cuda:99")
    assert done.exit_code == 1
    last = done.stderr.splitlines()[-1]
    assert re.match(r"Error: device='cuda:99' is unavailable, because", last)
    assert not (tmp_path / "masks").exists()


def test_auto_reports_the_device_and_the_reason(segzoo_, checkpoint, photos, tmp_path):
    done = segzoo_("predict", checkpoint, photos / "one.jpg", "-o", tmp_path)
    assert re.match(r"Running on (the CPU|cuda:0), because ", done.stderr)


def test_one_bad_image_does_not_stop_the_rest(segzoo_, exported, photos, tmp_path):
    (photos / "bad.jpg").write_bytes((photos / "one.jpg").read_bytes()[:700])
    (photos / "empty.png").touch()
    done = segzoo_("predict", exported[1], photos, "-o", tmp_path / "masks", "--device", "cpu")
    assert done.exit_code == 1
    assert "Wrote 3 masks to" in done.stdout
    assert done.stderr.count("Failed: ") == 2
    assert done.stderr.splitlines()[-3:] == [
        "Error: 2 of 5 images failed:",
        f"  {photos / 'bad.jpg'}",
        f"  {photos / 'empty.png'}",
    ]


def test_a_mask_that_exists_is_replaced_only_with_force(segzoo_, exported, photos, tmp_path):
    words = ("predict", exported[1], photos / "one.jpg", "-o", tmp_path, "--device", "cpu")
    (tmp_path / "one.png").write_text("the only ground truth")
    done = segzoo_(*words)
    assert (done.exit_code, (tmp_path / "one.png").read_text()) == (1, "the only ground truth")
    assert "one.png exists. Pass --force" in done.stderr
    assert segzoo_(*words, "--force").exit_code == 0
    assert pixels(tmp_path / "one.png").shape == (37, 50)


def test_two_images_with_one_mask_are_an_error_up_front(segzoo_, exported, photos, tmp_path):
    Image.fromarray(pixels(photos / "one.jpg")).save(photos / "one.png")
    done = segzoo_("predict", exported[1], photos, "-o", tmp_path / "masks")
    assert done.exit_code == 1
    assert f"{photos / 'one.jpg'} and {photos / 'one.png'} would both be written to" in done.stderr
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_an_image_is_never_overwritten(segzoo_, exported, photos, force):
    before = (photos / "two.png").read_bytes()
    done = segzoo_("predict", exported[1], photos, "-o", photos, *force)
    assert done.exit_code == 1
    assert "two.png is one of the images and would be overwritten" in done.stderr
    assert (photos / "two.png").read_bytes() == before


def test_an_overlay_never_overwrites_an_image(segzoo_, exported, photos):
    shutil.copy(photos / "one.jpg", photos / "one-overlay.jpg")
    pair = (photos / "one.jpg", photos / "one-overlay.jpg")
    done = segzoo_("predict", exported[1], *pair, "-o", photos, "--overlay")
    assert "one-overlay.jpg is one of the images" in done.stderr


def test_masks_of_an_earlier_run_are_not_input(segzoo_, exported, photos):
    words = ("predict", exported[1], photos, "-o", photos / "masks", "--device", "cpu", "--force")
    assert "Wrote 3 masks" in segzoo_(*words).stdout
    assert "Wrote 3 masks" in segzoo_(*words).stdout
    assert files(photos / "masks") == ["deep/one.png", "one.png", "two.png"]


def test_an_image_given_twice_is_processed_once(segzoo_, exported, photos, tmp_path):
    done = segzoo_("predict", exported[1], photos, photos / "one.jpg", "-o", tmp_path / "masks", "--device", "cpu")
    assert "Wrote 3 masks" in done.stdout


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("missing.onnx", "There is no file missing.onnx"),
        ("fcn/resnet101/coco_voc", "Did you mean 'fcn/resnet101/coco-voc'"),
        ("phtos", "Unknown model or image 'phtos'. Did you mean 'photos'? It is not a file, a folder, or a key"),
        ("model", "Unknown model or image 'model'. It is not a file, a folder, or a key"),
        ("photos.onnx", "There is no file photos.onnx. Did you mean 'photos'?"),
        ("unet", "unet is an architecture without weights; `segzoo list --weights` shows trained models."),
        ("https://example.com/a.onnx", "needs sha256="),
        ("s3://bucket/a.onnx", "reads https:// and hf://"),
    ],
)
def test_an_unknown_model_is_an_error(segzoo_, photos, tmp_path, monkeypatch, model, message):
    monkeypatch.chdir(tmp_path)
    done = segzoo_("predict", model, photos)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert message in done.stderr
    assert not Path("masks").exists()


def test_without_a_model_it_uses_the_packaged_one(segzoo_, shipped, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    for words in ((photos,), (shipped.key, photos)):
        done = segzoo_("predict", *words, "-o", tmp_path / "masks", "--device", "cpu", "--force")
        assert done.exit_code == 0, done.stderr
        assert (f"Using {shipped.key}, which ships with segzoo: 11 classes" in done.stderr) == (len(words) == 1)
        assert np.array_equal(
            pixels(tmp_path / "masks" / "one.png"), segzoo.load(shipped.key).predict(photos / "one.jpg")
        )


def test_a_missing_model_is_reported_before_existing_masks(segzoo_, exported, photos, tmp_path):
    words = (photos, "-o", tmp_path / "masks", "--device", "cpu")
    assert segzoo_("predict", exported[1], *words).exit_code == 0
    assert "masks exist" not in segzoo_("predict", tmp_path / "strret.onnx", *words).stderr
    assert "There is no file" in segzoo_("predict", tmp_path / "strret.onnx", *words).stderr


def test_without_a_packaged_model_one_must_be_named(segzoo_, photos, monkeypatch):
    monkeypatch.setattr(catalog, "_packaged", dict)
    done = segzoo_("predict", photos)
    assert done.exit_code == 1
    assert f"No model ships with this segzoo. Name one before {photos}" in done.stderr


def test_a_model_without_images_is_wrong_usage(segzoo_, checkpoint):
    done = segzoo_("predict", checkpoint)
    assert done.exit_code == 2
    assert "is a model. Name images, folders or videos after it" in re.sub(r"[\s\u2502]+", " ", done.stderr)


def test_a_folder_of_segzoo_save_is_a_model(segzoo_, checkpoint, photos, tmp_path):
    folder = segzoo.save(segzoo.load(checkpoint), f"{tmp_path}/saved/").parent
    done = segzoo_("predict", folder, photos / "one.jpg", "-o", tmp_path / "masks", "--device", "cpu")
    assert done.exit_code == 0, done.stderr


def test_a_folder_without_images_is_an_error(segzoo_, exported, tmp_path):
    done = segzoo_("predict", exported[1], tmp_path)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "holds no images" in done.stderr


def test_a_folder_without_images_does_not_stop_the_rest(segzoo_, exported, photos, tmp_path):
    empty, masks = tmp_path / "empty", tmp_path / "masks"
    empty.mkdir()
    words = ("predict", exported[1], empty, photos, "-o", masks, "--device", "cpu")
    done = segzoo_(*words)
    assert done.exit_code == 1
    assert "Wrote 3 masks to" in done.stdout and len(files(masks)) == 3
    assert f"Failed: {empty}: The folder '{empty}' holds no images" in done.stderr
    assert done.stderr.splitlines()[-2:] == ["Error: 1 of 4 images and folders failed:", f"  {empty}"]
    again = segzoo_(*words, "--skip-existing")
    assert again.exit_code == 1
    assert again.stderr.splitlines()[-2:] == ["Error: 1 of 4 images and folders failed:", f"  {empty}"]


def test_the_address_of_an_image_is_no_model(segzoo_, shipped, photos):
    for words in (["https://x.org/a.JPG?w=3"], [photos / "one.jpg", "https://x.org/a.JPG?w=3"]):
        done = segzoo_("predict", *words)
        assert (done.exit_code, done.stderr) == (
            1,
            "Error: segzoo downloads models, not images. Download https://x.org/a.JPG?w=3 and pass the file.\n",
        )


def test_control_characters_in_the_names_of_failed_files_do_not_reach_the_terminal(segzoo_, shipped, photos):
    broken = photos / "\x1b[31mred\n.png"
    broken.write_bytes(b"no image")
    done = segzoo_("predict", photos / "one.jpg", broken, "-o", photos / "masks")
    assert done.exit_code == 1 and "\x1b" not in done.stderr and "red\\n.png" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("model", ["fcn8s/test_resnet/camvid", "hf://jane/street", "street.onnx"])
def test_a_model_after_the_images_is_an_error_with_the_right_command(segzoo_, shipped, photos, model):
    done = segzoo_("predict", photos / "one.jpg", model, photos / "two.png", "--overlay")
    assert done.exit_code == 1
    command = f"segzoo predict {model} {photos / 'one.jpg'} {photos / 'two.png'}"
    assert done.stderr == f"Error: {model} is a model, and the model comes before the images: {command}\n"
    two = segzoo_("predict", photos / "one.jpg", model, "other.onnx")
    assert two.stderr.endswith(f"{photos / 'one.jpg'} A run takes one model, so omit other.onnx.\n")


@pytest.mark.parametrize("words", ["--tile 32 --tta flip", "--batch-size 2"])
def test_options_mean_the_same_for_a_checkpoint_and_its_graph(
    segzoo_, checkpoint, export_cache, photos, tmp_path, words
):
    graph = export_cache(segzoo.load(checkpoint)).path
    for model, name in ((checkpoint, "torch"), (graph, "onnx")):
        done = segzoo_("predict", model, photos / "one.jpg", "-o", tmp_path / name, "--device", "cpu", *words.split())
        assert done.exit_code == 0, done.stderr
    torch_mask, onnx_mask = (pixels(tmp_path / name / "one.png") for name in ("torch", "onnx"))
    assert np.mean(torch_mask == onnx_mask) > 0.999


def test_out_of_memory_in_torch_is_a_failed_image(segzoo_, checkpoint, photos, tmp_path, monkeypatch):
    def fail(self, images):
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr("segzoo.models.base.SegmentationModel.classify", fail)
    done = segzoo_("predict", checkpoint, photos / "one.jpg", "-o", tmp_path, "--device", "cpu")
    assert "torch failed on a batch of (1, 37, 50, 3) in torch.float32 on cpu: CUDA out of memory." in done.stderr


def test_an_interrupted_run_reports_how_many_are_done(segzoo_, exported, photos, tmp_path, monkeypatch):
    # `segzoo.cli.predict` is the module that holds the command.
    write, seen = predict._write, []

    def interrupted(job, result):
        seen.append(job)
        if len(seen) == 2:
            raise KeyboardInterrupt
        write(job, result)

    monkeypatch.setattr(predict, "_write", interrupted)
    done = segzoo_("predict", exported[1], photos, "-o", tmp_path / "masks", "--device", "cpu")
    assert done.exit_code == 130
    assert "Interrupted. 1 of 3 images are done; their masks are in" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGINT to another process")
def test_ctrl_c_leaves_whole_files_and_no_traceback(exported, photos, tmp_path):
    picture = Image.fromarray(pixels(photos / "one.jpg")).resize((640, 480))
    for index in range(300):
        picture.save(photos / f"{index:03}.jpg")
    masks = tmp_path / "masks"
    source = str(Path(segzoo.__file__).parents[1])
    # A process in the background ignores SIGINT, and so do its children: the tests may run in one.
    start = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('segzoo', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start, "predict", exported[1], photos, "-o", masks, "--device", "cpu"],
        env=os.environ | {"PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 60
    while not list(masks.glob("*.png")) and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Interrupted." in stderr and "Traceback" not in stderr
    assert all(name.endswith(".png") for name in files(masks))
    assert len(files(masks)) < 303


def test_skip_existing_resumes_an_interrupted_run(segzoo_, exported, photos, tmp_path):
    masks = tmp_path / "masks"
    words = ("predict", exported[1], photos, "-o", masks, "--device", "cpu", "--overlay", "--skip-existing")
    assert "Wrote 3 masks" in segzoo_(*words).stdout
    complete = {name: (masks / name).read_bytes() for name in files(masks)}
    (masks / "one.png").unlink()  # its overlay stays: overlays are written first
    (masks / "deep" / "one.png").write_text("kept as it is")
    done = segzoo_(*words)
    assert (done.exit_code, "Wrote 1 mask and its overlay" in done.stdout) == (0, True), done.output
    assert "Skipped 2 of 3 images, because their masks exist." in done.stderr
    assert (masks / "deep" / "one.png").read_text() == "kept as it is"
    assert (masks / "one.png").read_bytes() == complete["one.png"]
    nothing = segzoo_(*words)
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert nothing.stderr == "Skipped 3 of 3 images, because their masks exist.\n"


def test_batched_and_single_images_have_the_same_masks(segzoo_, exported, photos, tmp_path):
    for index in range(3):
        Image.fromarray(pixels(photos / "one.jpg")[::-1]).save(photos / f"{index}.png")
    for size in (1, 4):
        words = ("predict", exported[1], photos, "-o", tmp_path / f"{size}", "--device", "cpu", "--batch-size", size)
        assert segzoo_(*words).exit_code == 0
    assert len(files(tmp_path / "1")) == 6
    for name in files(tmp_path / "1"):
        assert np.mean(pixels(tmp_path / "1" / name) == pixels(tmp_path / "4" / name)) > 0.999


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--tile 32", {"tile": 32}),
        ("--tile 32,64 --overlap 8,16", {"tile": (32, 64), "overlap": (8, 16)}),
        ("--tta flip", {"tta": "flip"}),
        ("--tta 0.75,1,1.25", {"tta": (0.75, 1, 1.25)}),
        ("--tile 32 --tta flip,0.75,1", {"tile": 32, "tta": ("flip", 0.75, 1)}),
    ],
)
def test_tiles_and_views_equal_the_sessions(segzoo_, blending, photos, tmp_path, words, options):
    done = segzoo_("predict", blending, photos / "one.jpg", "-o", tmp_path, "--device", "cpu", *words.split())
    assert done.exit_code == 0, done.stderr
    expected = Predictor(blending, device="cpu").predict(photos / "one.jpg", **options).mask
    assert np.array_equal(pixels(tmp_path / "one.png"), expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--overlap 8", "--overlap needs --tile."),
        ("--force --skip-existing", "--force and --skip-existing contradict each other"),
        ("--tile 8x8", "--tile takes H,W such as 512,1024, or one number for both, not '8x8'"),
        ("--tile 8 --overlap 1,2,3", "--overlap takes H,W"),
        ("--tta flop", "--tta takes flip, scales such as 0.75,1,1.25, or both"),
        ("--batch-size 0", "--batch-size"),
    ],
)
def test_invalid_options_are_wrong_usage(segzoo_, exported, photos, tmp_path, words, message):
    done = segzoo_("predict", exported[1], photos, "-o", tmp_path / "masks", *words.split())
    assert done.exit_code == 2
    assert message in re.sub(r"[\s\u2502]+", " ", done.stderr)


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("blending", "--tile 32 --overlap 31", "overlap"),
        ("blending", "--tta 99", "a scale is a number from 0.1 to 10"),
        (
            "checkpoint",
            "--device tensorrt",
            "device='tensorrt' runs .onnx files only. Write one with `segzoo export {path}`",
        ),
        ("checkpoint", "--device tensorrt:1", "device='tensorrt:1' runs .onnx files only."),
    ],
)
def test_an_unsupported_option_is_an_error_with_advice(segzoo_, request, photos, tmp_path, model, words, message):
    fixture = request.getfixturevalue(model)
    path = fixture[1] if model == "exported" else fixture
    words = words if "--device" in words else f"{words} --device cpu"
    done = segzoo_("predict", path, photos, "-o", tmp_path / "masks", *words.split())
    assert (done.exit_code, done.stdout) == (1, "")
    assert message.format(path=path) in done.stderr
    assert not (tmp_path / "masks").exists()
