"""`segzoo demo`."""

import builtins
import re

import numpy as np
import pytest
from PIL import Image

import segzoo

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


def test_by_default_it_uses_the_packaged_model(segzoo_, shipped, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    done = segzoo_("demo", photos / "one.jpg", "-o", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert re.search(r"^model +fcn8s on test_resnet, 11 classes, trained on noise *$", done.stdout, re.MULTILINE)
    assert "random" not in done.output
    with Image.open(tmp_path / "out" / "one-mask.png") as mask:
        written = np.asarray(mask)
    assert (written == segzoo.load(shipped.key).predict(photos / "one.jpg").mask).mean() > 0.999


def test_its_own_photograph_shows_several_regions(photograph):
    """With the default decoder, encoder and seed; many random weights predict one class everywhere."""
    from segzoo.cli.demo import _SEED, _build, _sample

    pixels = _sample()
    assert np.array_equal(pixels, photograph)
    mask = _build("unet", "mobilenet", 6, _SEED).predict(pixels).mask
    shares = np.bincount(mask.ravel()) / mask.size
    assert (shares > 0.05).sum() >= 3


def test_without_scikit_learn_the_error_says_what_to_do(segzoo_, monkeypatch, tmp_path):
    real = builtins.__import__

    def absent(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    done = segzoo_("demo", "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "pip install scikit-learn" in done.stderr
    assert not (tmp_path / "out").exists()


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
