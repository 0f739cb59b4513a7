"""How commands find a model: by path, catalog key, hf:// or URL."""

import hashlib

import loopback
import pytest

from segzoo.cli import files

KEY = "fcn8s/test_resnet/camvid"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate", KEY, "."), "classes.json"),  # the model loads, but the folder holds no data
        (("compare", KEY, "--root", "."), "classes.json"),
        (("bench", KEY), f"{KEY} is not an .onnx file. `segzoo export {KEY}` writes one."),
        (("export", KEY, "-o", "absent/a.onnx"), "There is no folder absent"),
        (("predict", KEY, "absent.jpg"), "There is no file or folder 'absent.jpg'"),
        (("evaluate", "fcn8s/test_resnet/camvit", "."), f"Did you mean '{KEY}'"),
        (("compare", "fcn8s/test_resnet/camvit", "--root", "."), f"Did you mean '{KEY}'"),
        (("bench", "hf://jane/street/small.onnx"), "Could not fetch hf://jane/street/small.onnx"),
        (("info", "hf://jane/street"), "Could not fetch hf://jane/street"),
        (("evaluate", "https://example.com/a.safetensors", "."), "needs sha256="),
        (("info", "ftp://example.com/a.safetensors"), "reads https:// and hf://"),
    ],
)
def test_a_key_or_url_works_like_a_path(segzoo_, shipped, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEGZOO_OFFLINE", "1")
    assert shipped.key == KEY
    done = segzoo_(*words)
    assert done.exit_code == 1
    assert message in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_a_url_carries_its_sha256(segzoo_, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGZOO_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    with loopback.serving() as server:
        server.content = checkpoint.read_bytes()
        done = segzoo_("info", f"{server.on('/small.safetensors', loopback.well)}#sha256={digest}")
    assert done.exit_code == 0, done.stderr
    assert digest in done.stdout and "Bicyclist" in done.stdout


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("models/street.safetensors", "street"),
        ("fcn/resnet101/coco-voc", "fcn-resnet101-coco-voc"),
        ("hf://jane/street", "jane-street"),
        ("hf://jane/street@v2/small.safetensors", "jane-street"),
        ("https://example.org/models/a%20street.safetensors?b=c#sha256=0", "a street"),
    ],
)
def test_files_made_from_a_model_are_named_after_it(name, stem):
    assert files.stem(name) == stem
