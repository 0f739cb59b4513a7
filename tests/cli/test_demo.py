"""`segzoo demo`."""

import re

import numpy as np
import pytest
from PIL import Image

import segzoo
from segzoo.classes import class_set
from segzoo.cli.demo_export import NUM_CLASSES, SEED, build_random
from segzoo.data.sample import PHOTOGRAPH
from segzoo.weights.catalog import default

SMALL = ("--encoder", "test_resnet", "--device", "cpu")


def test_it_exports_and_segments(segzoo_, photos, tmp_path):
    done = segzoo_("demo", photos / "one.jpg", "-o", tmp_path / "out", *SMALL)
    assert done.exit_code == 0, done.stderr
    for row in ("parameters", "export time", "logits differ by", "same class", "verified on", "latency", "provider"):
        assert re.search(rf"^{row} +\S", done.stdout, re.MULTILINE), row
    assert "8 batches of images, against torch" in done.stdout
    assert "ms at 50 x 37, median of" in done.stdout and "CPUExecutionProvider" in done.stdout
    names = ("unet-test_resnet.onnx", "one-mask.png", "one-overlay.jpg")
    assert re.findall(r"^  (\S+)  \(", done.stdout, re.MULTILINE) == [str(tmp_path / "out" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    with Image.open(tmp_path / "out" / "one-mask.png") as mask:
        mask = np.asarray(mask)
    assert mask.shape == (37, 50) and mask.max() < 6
    assert "random" in done.stderr and "the mask is meaningless" in done.stderr


def test_with_export_it_exports_the_packaged_model(segzoo_, shipped, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    done = segzoo_("demo", photos / "one.jpg", "-o", tmp_path / "out", "--device", "cpu", "--export")
    assert done.exit_code == 0, done.stderr
    assert re.search(r"^model +fcn8s on test_resnet, 11 classes, trained on noise *$", done.stdout, re.MULTILINE)
    assert "random" not in done.output and "same class" in done.stdout
    with Image.open(tmp_path / "out" / "one-mask.png") as mask:
        written = np.asarray(mask)
    assert (written == segzoo.load(shipped.key).predict(photos / "one.jpg").mask).mean() > 0.999


def test_by_default_it_segments_the_packaged_photograph_with_the_packaged_file(imports, tmp_path, photograph):
    done = imports("demo", "-o", tmp_path, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    entry = default()
    assert re.search(rf"^model +{entry.key}, {entry.params:,} parameters, trained on\b", done.stdout, re.MULTILINE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["temple-mask.png", "temple-overlay.jpg"]
    with Image.open(tmp_path / "temple-mask.png") as mask:
        written = np.asarray(mask)
    expected = segzoo.load(entry.key).predict(photograph).mask
    assert (written == expected).mean() > 0.999
    share = f"Sky {(expected == class_set(entry.classes).names.index('Sky')).mean():.0%}"
    assert share in re.search(r"^found +(.*(?:\n +.*)*)", done.stdout, re.MULTILINE)[1]


def test_with_random_weights_its_photograph_shows_several_regions(photograph):
    """With the default decoder, encoder and seed; many random weights predict one class everywhere."""
    mask = build_random("unet", "mobilenet", NUM_CLASSES, SEED).predict(photograph).mask
    shares = np.bincount(mask.ravel()) / mask.size
    assert (shares > 0.05).sum() >= 3


def test_the_photographs_license_is_beside_it():
    text = PHOTOGRAPH.with_name("LICENSE.txt").read_text()
    assert PHOTOGRAPH.name in text and "creativecommons.org/licenses/by/2.0" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("missing.jpg",), "no image file"),
        (("--decoder", "unte"), "Did you mean 'unet'"),
        (("-o", "taken"), "is a file"),
    ],
)
def test_a_mistake_is_an_error_with_advice(segzoo_, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    done = segzoo_("demo", *words)
    assert done.exit_code == 1
    assert message in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
