"""`segzoo demo`."""

import builtins
import re

import numpy as np
import pytest
from PIL import Image

import segzoo

SMALL = ("--encoder", "test_resnet", "--device", "cpu")


def test_the_whole_way(segzoo_, photos, tmp_path):
    done = segzoo_("demo", photos / "one.jpg", "-o", tmp_path / "out", *SMALL)
    assert done.exit_code == 0, done.stderr
    for fact in ("parameters", "export time", "logits differ by", "same label", "latency", "provider"):
        assert re.search(rf"^{fact} +\S", done.stdout, re.MULTILINE), fact
    assert "ms at 50 x 37, median of" in done.stdout and "CPUExecutionProvider" in done.stdout
    names = ("unet-test_resnet.onnx", "one-labels.png", "one-overlay.jpg")
    assert re.findall(r"^  (\S+)  \(", done.stdout, re.MULTILINE) == [str(tmp_path / "out" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    with Image.open(tmp_path / "out" / "one-labels.png") as mask:
        labels = np.asarray(mask)
    assert labels.shape == (37, 50) and labels.max() < 6
    assert "random" in done.stderr and "mean nothing" in done.stderr


def test_without_a_flag_it_shows_the_model_that_ships(segzoo_, shipped, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    done = segzoo_("demo", photos / "one.jpg", "-o", tmp_path / "out", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert re.search(r"^model +fcn8s on test_resnet, 11 classes, trained on noise *$", done.stdout, re.MULTILINE)
    assert "random" not in done.output
    with Image.open(tmp_path / "out" / "one-labels.png") as mask:
        found = np.asarray(mask)
    assert (found == segzoo.load(shipped.key).predict(photos / "one.jpg")).mean() > 0.999


def test_its_own_photograph_shows_several_regions(photograph):
    """Of the default pair; random weights that gave one class everywhere would make a dull picture."""
    from segzoo.cli.demo import _SEED, _build, _sample

    pixels = _sample()
    assert np.array_equal(pixels, photograph)
    labels = _build("unet", "mobilenet", 6, _SEED).predict(pixels)
    shares = np.bincount(labels.ravel()) / labels.size
    assert (shares > 0.05).sum() >= 3


def test_without_scikit_learn_it_says_what_to_do(segzoo_, monkeypatch, tmp_path):
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
    ("words", "said"),
    [
        (("missing.jpg",), "no image file"),
        (("--decoder", "unte"), "Did you mean 'unet'"),
        (("-o", "taken"), "is a file"),
    ],
)
def test_what_cannot_be_is_an_error_with_advice(segzoo_, monkeypatch, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    done = segzoo_("demo", *words)
    assert done.exit_code == 1
    assert said in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
