"""`segzoo evaluate` and `segzoo compare`."""

import json
from pathlib import Path

import numpy as np
import pytest
from export_cache import ExportCache, small_model
from PIL import Image
from small_data import random_ids, write_image, write_mask

import segzoo


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random images and masks with 5 classes, in two sizes."""
    root = tmp_path_factory.mktemp("data")
    (root / "classes.json").write_text(json.dumps({"names": list("abcde"), "ignore_index": 255}))
    for index in range(4):
        size = (40 + index % 2, 50)
        write_image(root / "val" / "images" / f"{index}.png", index, size)
        write_mask(root / "val" / "masks" / f"{index}.png", random_ids(5, index, size, ignore_index=255))
    return root


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory, export_cache: ExportCache) -> tuple[Path, Path]:
    """A checkpoint, and the .onnx file exported from it."""
    folder = tmp_path_factory.mktemp("both")
    info = {"trained": {"seconds": 90.0}, "recipe": {"data": {"name": "folder"}}}
    classes = segzoo.ClassSet(tuple("abcde"), segzoo.ClassSet.generic(5).palette, 255)
    model = small_model("unet", "test_resnet", classes=classes).with_info(**info).eval()
    with export_cache.cached_tracing():
        segzoo.export(model, folder / "model.onnx")
    return segzoo.save(model, folder / "model.safetensors"), folder / "model.onnx"


def test_a_checkpoint_and_its_export_have_the_same_metrics(segzoo_, both, root, tmp_path):
    records = []
    for model in both:
        folder = tmp_path / model.suffix[1:]
        done = segzoo_("evaluate", model, root, "-o", folder, "--worst", 2, "--device", "cpu")
        assert done.exit_code == 0, done.stderr
        assert "val: 4 images" in done.stdout and "mean IoU" in done.stdout
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        assert files[:2] == ["confusion.png", "evaluation.json"] and len(files) == 4
        records.append(json.loads((folder / "evaluation.json").read_text()))
    first, second = (
        {name: value for name, value in record.items() if name not in ("model", "sha256", "seconds")}
        for record in records
    )
    assert first == second
    with Image.open(next((tmp_path / "onnx" / "worst").glob("01-*.jpg"))) as picture:
        assert picture.width > 3 * 50
        assert np.asarray(picture).std() > 10


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def evaluation(segzoo_, both, root, tmp_path):
    """A folder, and a function that evaluates into it."""
    folder = tmp_path / "report"
    return folder, lambda *words: segzoo_("evaluate", both[0], root, "-o", folder, "--device", "cpu", *words)


def test_a_report_is_replaced_only_with_force(evaluation):
    folder, evaluate = evaluation
    assert evaluate("--worst", 1).exit_code == 0
    before = files_in(folder)
    done = evaluate("--worst", 2)
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert f"{folder / 'evaluation.json'} exists. Pass --force" in done.stderr
    assert files_in(folder) == before


def test_a_report_holds_one_run_and_keeps_the_users_files(evaluation):
    folder, evaluate = evaluation
    assert evaluate("--worst", 3).exit_code == 0
    assert len(list((folder / "worst").iterdir())) == 3
    (folder / "notes.txt").write_text("mine")
    (folder / "worst" / "sketch.jpg").write_text("mine")
    assert evaluate("--worst", 1, "--force").exit_code == 0
    names = sorted(files_in(folder))
    assert names[:3] == ["confusion.png", "evaluation.json", "notes.txt"]
    assert names[3].startswith("worst/01-") and names[4:] == ["worst/sketch.jpg"]


def test_a_picture_of_an_unknown_run_is_not_deleted(evaluation):
    folder, evaluate = evaluation
    (folder / "worst").mkdir(parents=True)
    picture = folder / "worst" / "01-mine.jpg"
    picture.write_text("mine")
    assert "01-mine.jpg exists. Pass --force" in evaluate().stderr
    done = evaluate("--force")
    assert done.exit_code == 1 and "does not name" in done.stderr and "Move it away" in done.stderr
    assert files_in(folder) == {"worst/01-mine.jpg": b"mine"}


def test_a_failed_report_keeps_the_earlier_one(evaluation, monkeypatch):
    folder, evaluate = evaluation
    assert evaluate("--worst", 2).exit_code == 0
    before = files_in(folder)
    with monkeypatch.context() as patch:
        patch.setattr("segzoo.cli.evaluate.save_picture", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        assert "disk full" in evaluate("--worst", 1, "--force").stderr
    assert files_in(folder) == before and [path.name for path in folder.glob(".*")] == []


def test_a_report_folder_must_not_be_a_file(evaluation):
    folder, evaluate = evaluation
    folder.touch()
    assert "is a file. Name a folder with -o." in evaluate("--force").stderr


def test_models_are_compared_in_one_table(segzoo_, both, root, tmp_path):
    done = segzoo_("compare", *both, "--root", root, "-o", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    first, second = record["models"]
    parameters = sum(p.numel() for p in segzoo.load(both[0]).parameters())
    assert first["parameters"] == second["parameters"] == parameters
    assert first["mean_iou"] == second["mean_iou"]
    assert first["training_seconds"] == 90.0 and first["milliseconds"] > 0
    assert f"{parameters:,}" in done.stdout and "1.5 min" in done.stdout
    assert (tmp_path / "out" / "comparison.png").is_file()
    again = segzoo_("compare", *both, "--root", root, "-o", tmp_path / "out", "--device", "cpu")
    assert again.exit_code == 1 and "comparison.json exists. Pass --force" in again.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "camvit"], "Did you mean 'camvid'"),
        (["--split", "vall"], "Did you mean 'val'"),
        (["--select", "9*"], "matches '9*'"),
    ],
)
def test_mistakes_are_one_line(words, message, segzoo_, both, root, tmp_path):
    done = segzoo_("evaluate", both[0], root, "-o", tmp_path / "out", "--device", "cpu", *words)
    assert done.exit_code == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_with_other_classes_is_refused(segzoo_, checkpoint, root, tmp_path):
    done = segzoo_("evaluate", checkpoint, root, "-o", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 1
    assert "has 11 classes, and" in done.stderr


def test_a_model_is_compared_only_once(segzoo_, both, root, tmp_path):
    done = segzoo_("compare", both[0], both[0], "--root", root, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "listed twice" in done.stderr
