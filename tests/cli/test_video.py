"""`segzoo predict` on videos."""

import re
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import cut, film, scene, turn
from PIL import Image

import segzoo
from segzoo import visualize
from segzoo.cli import video
from segzoo.data.video import frames, measure
from segzoo.inference import Predictor


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """16 frames of 64 x 48."""
    return film(tmp_path / "clip.mp4", scene(), rate=12)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def masks(folder: Path) -> list[np.ndarray]:
    arrays = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as mask:
            assert mask.mode == "P"
            arrays.append(np.asarray(mask))
    return arrays


NAMES = [f"clip/{index:06}.png" for index in range(16)]


def test_a_video_becomes_a_folder_of_masks_and_a_video(segzoo_, exported, clip, tmp_path):
    out = tmp_path / "out"
    done = segzoo_("predict", exported[1], clip, "-o", out, "--overlay", "--device", "cpu", "--batch-size", 3)
    assert done.exit_code == 0, done.output
    assert files(out) == ["clip.overlay.mp4", *NAMES]
    assert re.search(r"Wrote 16 masks to \S+clip/ and \S+clip.overlay.mp4 in .* frames/s\.", done.stdout)
    session = Predictor(exported[1], device="cpu")
    pictures = list(frames(clip))
    expected = [result.mask for result in session.stream(frames(clip), batch_size=3)]
    assert len(expected) == 16
    assert all(np.array_equal(mask, other) for mask, other in zip(masks(out / "clip"), expected, strict=True))
    assert measure(out / "clip.overlay.mp4") == (Fraction(12), 16)
    for shown, picture, mask in zip(frames(out / "clip.overlay.mp4"), pictures, expected, strict=True):
        drawn = np.asarray(visualize.overlay(picture, mask, session.classes, legend=False)).astype(int)
        assert np.mean(np.abs(shown - drawn)) < 20


@pytest.mark.parametrize("model", ["exported", "checkpoint"])
def test_a_rotated_video_of_odd_size_keeps_its_size(segzoo_, request, model, tmp_path):
    path = request.getfixturevalue(model)
    path = path if model == "checkpoint" else path[1]
    clip = turn(film(tmp_path / "clip.mp4", scene(3, (47, 63))))
    done = segzoo_("predict", path, clip, "-o", tmp_path, "--overlay", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert [mask.shape for mask in masks(tmp_path / "clip")] == [(63, 47)] * 3
    assert [frame.shape for frame in frames(tmp_path / "clip.overlay.mp4")] == [(63, 47, 3)] * 3


def test_a_checkpoint_predicts_frames_as_the_model_does(segzoo_, checkpoint, clip, tmp_path):
    assert segzoo_("predict", checkpoint, clip, "-o", tmp_path, "--device", "cpu").exit_code == 0
    model = segzoo.load(checkpoint)
    for mask, picture in zip(masks(tmp_path / "clip"), frames(clip), strict=True):
        assert np.array_equal(mask, model.predict(picture))


def test_a_gray_model_segments_videos(segzoo_, clip, tmp_path):
    model = segzoo.create("fcn", "test_resnet", num_classes=3, in_channels=1)
    saved = segzoo.save(model, tmp_path / "gray.safetensors")
    done = segzoo_("predict", saved, clip, "-o", tmp_path, "--overlay", "--device", "cpu")
    assert done.exit_code == 0, done.output
    picture = Image.fromarray(next(frames(clip)))
    assert np.array_equal(masks(tmp_path / "clip")[0], model.eval().predict(picture))


def test_images_and_videos_go_together_and_without_torch(imports, exported, photos, clip, tmp_path):
    done = imports("predict", exported[1], photos, clip, "-o", tmp_path / "out", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "out") == sorted([*NAMES, "deep/one.png", "one.png", "two.png"])


def test_broken_videos_do_not_stop_the_rest(segzoo_, exported, photos, clip, tmp_path):
    cut(shutil.copy(clip, tmp_path / "cut.mp4"))
    (tmp_path / "notes.mp4").write_text("no video\n" * 100)
    out = tmp_path / "out"
    inputs = [tmp_path / "notes.mp4", tmp_path / "cut.mp4", photos / "one.jpg", clip]
    done = segzoo_("predict", exported[1], *inputs, "-o", out, "--overlay", "--device", "cpu")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-3:] == [
        "Error: 2 of 4 images and videos failed:",
        f"  {tmp_path / 'notes.mp4'}",
        f"  {tmp_path / 'cut.mp4'}",
    ]
    assert done.stderr.count("Failed: ") == 2
    assert "is not a video that PyAV can read" in done.stderr and "is damaged after frame" in done.stderr
    assert set(NAMES) | {"one.png", "clip.overlay.mp4"} <= set(files(out))
    kept = len(masks(out / "cut"))
    assert 1 < kept < 16
    assert len(list(frames(out / "cut.overlay.mp4"))) == kept
    assert not (out / "notes").exists() and not (out / "notes.overlay.mp4").exists()


def test_skip_existing_resumes_and_draws_existing_masks(segzoo_, exported, clip, tmp_path, monkeypatch):
    # Compared as drawn: with several threads, x264 encodes the same frames differently in one run of a hundred.
    drawn: list[np.ndarray] = []
    draw = visualize.overlay

    def recorded(*args, **options):
        picture = draw(*args, **options)
        drawn.append(np.asarray(picture))
        return picture

    monkeypatch.setattr(visualize, "overlay", recorded)
    out = tmp_path / "out"
    words = ("predict", exported[1], clip, "-o", out, "--device", "cpu")
    assert segzoo_(*words, "--overlay").exit_code == 0
    complete, first = masks(out / "clip"), drawn.copy()
    drawn.clear()
    for name in ("clip/000003.png", "clip/000004.png", "clip/000015.png", "clip.overlay.mp4"):
        (out / name).unlink()
    kept = (out / "clip/000007.png").stat().st_mtime_ns
    done = segzoo_(*words, "--overlay", "--skip-existing")
    assert (done.exit_code, "Wrote 3 masks to" in done.stdout) == (0, True), done.output
    assert "Skipped 13 of 16 frames" in done.stderr
    assert (out / "clip/000007.png").stat().st_mtime_ns == kept
    assert all(np.array_equal(mask, other) for mask, other in zip(masks(out / "clip"), complete, strict=True))
    assert len(list(frames(out / "clip.overlay.mp4"))) == 16 and np.array_equal(drawn, first)
    nothing = segzoo_(*words, "--overlay", "--skip-existing")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "Skipped 16 of 16 frames" in nothing.stderr


def test_a_mask_that_segzoo_did_not_write_is_not_drawn(segzoo_, exported, clip, tmp_path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "000002.png").write_text("no mask")
    words = ("predict", exported[1], clip, "-o", tmp_path, "--device", "cpu", "--overlay", "--skip-existing")
    done = segzoo_(*words)
    assert done.exit_code == 1
    assert "000002.png is not a mask that segzoo wrote" in done.stderr
    assert not (tmp_path / "clip.overlay.mp4").exists()
    assert files(tmp_path / "clip") == ["000000.png", "000001.png", "000002.png"]


@pytest.mark.parametrize("existing", ["clip/000009.png", "clip.overlay.mp4"])
def test_existing_outputs_are_replaced_only_with_force(segzoo_, exported, clip, tmp_path, existing):
    out = tmp_path / "out"
    (out / "clip").mkdir(parents=True)
    (out / existing).write_text("kept as it is")
    words = ("predict", exported[1], clip, "-o", out, "--device", "cpu", "--overlay")
    done = segzoo_(*words)
    assert (done.exit_code, files(out)) == (1, [existing])
    assert f"{Path(existing).name} exists. Pass --force" in done.stderr
    assert segzoo_(*words, "--force").exit_code == 0
    assert len(masks(out / "clip")) == len(list(frames(out / "clip.overlay.mp4"))) == 16


def test_two_videos_with_one_folder_are_an_error_up_front(segzoo_, exported, clip, tmp_path):
    shutil.copy(clip, tmp_path / "clip.avi")
    done = segzoo_("predict", exported[1], clip, tmp_path / "clip.avi", "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "would both be written to" in done.stderr and not (tmp_path / "out").exists()


def test_an_image_and_a_video_with_one_folder_are_an_error_up_front(segzoo_, exported, photos, clip, tmp_path):
    (photos / "deep").rename(photos / "clip")
    done = segzoo_("predict", exported[1], photos, clip, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "would both be written to" in done.stderr and not (tmp_path / "out").exists()


def test_an_input_is_never_overwritten(segzoo_, exported, clip, tmp_path):
    shutil.copy(clip, tmp_path / "clip.overlay.mp4")
    (tmp_path / "clip").mkdir()
    shutil.copy(clip, tmp_path / "clip" / "first.mp4")
    for other in (tmp_path / "clip.overlay.mp4", tmp_path / "clip" / "first.mp4"):
        done = segzoo_("predict", exported[1], clip, other, "-o", tmp_path, "--overlay", "--force")
        assert done.exit_code == 1
        assert f"{other} is one of the inputs" in done.stderr


def test_a_video_given_twice_is_processed_once(segzoo_, exported, clip, tmp_path):
    done = segzoo_("predict", exported[1], clip, clip, "-o", tmp_path / "out", "--device", "cpu")
    assert done.stdout.count("Wrote 16 masks") == 1


def test_a_missing_video_is_an_error_up_front(segzoo_, exported, photos, tmp_path):
    done = segzoo_("predict", exported[1], photos, tmp_path / "gone.mp4", "-o", tmp_path / "out")
    assert (done.exit_code, (tmp_path / "out").exists()) == (1, False)
    assert "There is no file or folder" in done.stderr


def test_without_pyav_the_error_says_what_to_install(segzoo_, exported, photos, clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    done = segzoo_("predict", exported[1], photos, clip, "-o", tmp_path / "out")
    assert (done.exit_code, (tmp_path / "out").exists()) == (1, False)
    assert 'pip install "segmentation-zoo-runtime[video]"' in done.stderr
    assert segzoo_("predict", exported[1], photos, "-o", tmp_path / "out", "--device", "cpu").exit_code == 0


def test_an_interrupted_run_leaves_complete_masks_and_no_overlay(segzoo_, exported, clip, tmp_path, monkeypatch):
    save, seen = visualize.save_mask, []

    def interrupted(*arguments):
        seen.append(arguments)
        if len(seen) == 4:
            raise KeyboardInterrupt
        save(*arguments)

    monkeypatch.setattr(visualize, "save_mask", interrupted)
    done = segzoo_("predict", exported[1], clip, "-o", tmp_path / "out", "--overlay", "--device", "cpu")
    assert done.exit_code == 130
    assert "Interrupted. 3 masks of" in done.stderr
    assert files(tmp_path / "out") == NAMES[:3]


def test_an_error_on_a_frame_is_a_failed_video(segzoo_, checkpoint, clip, photos, tmp_path, monkeypatch):
    def fail(self, images):
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr("segzoo.models.base.SegmentationModel.classify", fail)
    done = segzoo_("predict", checkpoint, clip, "-o", tmp_path / "out", "--overlay", "--device", "cpu")
    assert done.exit_code == 1
    assert "torch failed on a batch of (1, 48, 64, 3) in torch.float32 on cpu: CUDA out of memory." in done.stderr
    assert files(tmp_path / "out") == []


def test_few_frames_are_buffered(exported, tmp_path, monkeypatch):
    """Masks of the second half exist already, and are read faster than the first half is segmented."""
    path = film(tmp_path / "clip.mp4", scene(60, (16, 16)))
    clip = video.Clip(path, tmp_path / "clip", None)
    clip.folder.mkdir()
    predictor = Predictor(exported[1], "cpu")
    for index in range(30, 60):
        visualize.save_mask(clip.mask(index), np.zeros((16, 16), np.uint8), predictor.classes)
    read = 0

    def counted():
        nonlocal read
        for frame in frames(path):
            read += 1
            yield frame

    ahead = []
    results = video._frames_with_masks(
        lambda images: predictor.stream(images, batch_size=2), clip, counted(), True, True
    )
    for index, (_, mask, existed) in enumerate(results):
        ahead.append(read - index)
        assert existed == (index >= 30)
        assert mask is not None
    assert len(ahead) == 60 and max(ahead) <= 8
