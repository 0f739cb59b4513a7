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
from segzoo.runtime import Session


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_folder_becomes_a_folder_of_masks(segzoo_, exported, photos, tmp_path):
    done = segzoo_("predict", exported[1], photos, "-o", tmp_path / "masks", "--overlay", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert "Wrote 3 masks and their overlays" in done.stdout
    assert "It runs on cpu, because device='cpu' was asked for." in done.stderr
    session = Session(exported[1], device="cpu")
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
    expected = segzoo.load(checkpoint).predict(photos / "one.jpg")
    assert np.array_equal(pixels(tmp_path / "one.png"), expected)


@pytest.mark.parametrize("model", ["exported", "checkpoint"])
def test_a_gpu_that_is_not_there_is_an_error(segzoo_, request, model, photos, tmp_path):
    path = request.getfixturevalue(model)
    path = path if model == "checkpoint" else path[1]
    done = segzoo_("predict", path, photos, "-o", tmp_path / "masks", "--device", "cuda:99")
    assert done.exit_code == 1
    assert "Error: device='cuda:99' cannot be had, because" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "masks").exists()


def test_auto_says_where_it_runs_and_why(segzoo_, checkpoint, photos, tmp_path):
    done = segzoo_("predict", checkpoint, photos / "one.jpg", "-o", tmp_path)
    assert re.match(r"It runs on (the CPU|cuda:0), because ", done.stderr)


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
    assert "two.png is one of the images, and would be overwritten" in done.stderr
    assert (photos / "two.png").read_bytes() == before


def test_an_overlay_does_not_land_on_an_image_either(segzoo_, exported, photos):
    shutil.copy(photos / "one.jpg", photos / "one-overlay.jpg")
    pair = (photos / "one.jpg", photos / "one-overlay.jpg")
    done = segzoo_("predict", exported[1], *pair, "-o", photos, "--overlay")
    assert "one-overlay.jpg is one of the images" in done.stderr


def test_masks_of_an_earlier_run_are_not_taken_for_photographs(segzoo_, exported, photos):
    words = ("predict", exported[1], photos, "-o", photos / "masks", "--device", "cpu", "--force")
    assert "Wrote 3 masks" in segzoo_(*words).stdout
    assert "Wrote 3 masks" in segzoo_(*words).stdout
    assert files(photos / "masks") == ["deep/one.png", "one.png", "two.png"]


def test_an_image_given_twice_is_done_once(segzoo_, exported, photos, tmp_path):
    done = segzoo_("predict", exported[1], photos, photos / "one.jpg", "-o", tmp_path / "masks", "--device", "cpu")
    assert "Wrote 3 masks" in done.stdout


@pytest.mark.parametrize("model", ["missing.onnx", "notes.txt", "."])
def test_what_is_no_model_is_an_error(segzoo_, photos, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("notes")
    done = segzoo_("predict", model, photos)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert not Path("masks").exists()


def test_a_folder_without_images_is_an_error(segzoo_, exported, tmp_path):
    assert "holds no images" in segzoo_("predict", exported[1], tmp_path).stderr


def test_out_of_memory_in_torch_is_a_failed_image(segzoo_, checkpoint, photos, tmp_path, monkeypatch):
    def fail(self, image):
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr("segzoo.model.SegmentationModel.predict", fail)
    done = segzoo_("predict", checkpoint, photos / "one.jpg", "-o", tmp_path, "--device", "cpu")
    assert "torch failed on 50 x 37 pixels: CUDA out of memory." in done.stderr


def test_interrupted_it_says_how_far_it_came(segzoo_, exported, photos, tmp_path, monkeypatch):
    # `segzoo.cli.predict` is the module: the command of that name lives in it.
    segment, seen = predict._segment, []

    def interrupted(predictor, job):
        seen.append(job)
        if len(seen) == 2:
            raise KeyboardInterrupt
        segment(predictor, job)

    monkeypatch.setattr(predict, "_segment", interrupted)
    done = segzoo_("predict", exported[1], photos, "-o", tmp_path / "masks", "--device", "cpu")
    assert done.exit_code == 130
    assert "Interrupted. 1 of 3 are written to" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_leaves_whole_files_and_no_traceback(exported, photos, tmp_path):
    picture = Image.fromarray(pixels(photos / "one.jpg")).resize((640, 480))
    for index in range(300):
        picture.save(photos / f"{index:03}.jpg")
    masks = tmp_path / "masks"
    source = str(Path(segzoo.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "segzoo.cli", "predict", exported[1], photos, "-o", masks, "--device", "cpu"],
        env=os.environ | {"PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 60
    while not list(masks.glob("*.png")) and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Interrupted." in said and "Traceback" not in said
    assert all(name.endswith(".png") for name in files(masks))
    assert len(files(masks)) < 303
