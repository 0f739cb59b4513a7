"""Mistakes that commands refuse before they import torch."""

import json
import re

import pytest
from PIL import Image

# Many commands in one process, to save time: none of them may import torch, whichever it is.
SCRIPT = """
import json, sys
from typer.testing import CliRunner
from segzoo.cli import app
results = []
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, words)
    results.append((done.exit_code, done.stderr, sorted({"torch", "timm"} & set(sys.modules))))
print(json.dumps(results))
"""

REFUSED = {
    "export unte": "Did you mean 'unet'",
    "export paper/segnt": "Did you mean 'paper/segnet",
    "export unet --classes cmavid": "Did you mean 'camvid'",
    "export unet --classes label.txt": "There is no file label.txt. Did you mean 'labels.txt'?",
    "export unet --classes photo.jpg": "photo.jpg must be a .txt file with one class name per line",
    "export unet --classes labels.txt --num-classes 3": "--num-classes is 3, but labels.txt names 2 classes.",
    "export unet --upsample bilnear": "Did you mean 'bilinear'",
    "export unet --output-stride 7": "--output-stride must be 8, 16 or 32, not 7",
    "export unet --encoder-weights gone.pth": "There is no file gone.pth",
    "export unet --encoder-weights unet/mobilenetv4_conv_smal/camvid": "Did you mean 'unet/mobilenetv4_conv_small",
    "export unet --precision int8": "--calibration FOLDER",
    "export unet --precision int8 --calibration gone": "There is no file or folder 'gone'",
    "export unet --confidence --input tensor": "--confidence needs --input image",
    "export unet -o gone/a.onnx": "There is no folder gone",
    "export unet -o a.txt": "ends in .txt",
    "export fcn": "fcn-resnet50.onnx exists. Pass --force",
    "export fcn --encoder resnet18": "fcn-resnet18.onnx exists. Pass --force",
    "export gone.safetensors": "There is no file gone.safetensors",
    "export unet/mobilenetv4_conv_smal/camvid": "Did you mean 'unet/mobilenetv4_conv_small/camvid'",
    "export unet --triton file": "file is a file",
    "convert gone.pth -o a.safetensors": "There is no file or folder gone.pth",
    "convert file -o a.pth": "ends in .pth",
    "convert file -o a --source torchvison": "Did you mean 'torchvision'",
    "convert file -o a --classes cmavid": "Did you mean 'camvid'",
    "convert file -o a --classes label.txt": "There is no file label.txt",
    "convert file -o a --classes labels.txt --num-classes 3": "--num-classes is 3, but labels.txt names 2 classes.",
    "predict gone.jpg": "There is no file or folder 'gone.jpg'",
    "predict fcn/resnet50/coco-voc gone": "There is no file or folder 'gone'",
    "predict fcn/resnet50/coco-vco photo.jpg": "Did you mean 'fcn/resnet50/coco-voc'",
    "predict gone.safetensors photo.jpg": "There is no file gone.safetensors",
    "predict photo.jpg -o file": "file is a file. Name a folder",
    "predict photo.jpg --device cdua": "Did you mean 'cuda'",
    "push gone.safetensors jane/street": "There is no file gone.safetensors",
    "push file jane": "jane",
    "augment gone": "There is no folder gone",
    "augment . --data camvd": "Did you mean 'camvid'",
    "augment . --preview gone/a.png": "There is no folder gone",
    "compare fcn/resnet50/coco-voc --root gone": "There is no folder gone",
    "compare gone.onnx --root .": "There is no file gone.onnx",
    "demo gone.jpg": "There is no image file 'gone.jpg'",
    "demo photo.jpg --decoder unte": "Did you mean 'unet'",
    "demo photo.jpg -o file": "file is a file",
    "train gone.toml -o run": "There is no recipe gone.toml",
    "train unet_camvid -o run": "Unknown recipe 'unet_camvid'",
    "train recipe.toml -o run --set run.epoch=3": "Did you mean 'run.epochs'",
    "train recipe.toml -o run --set model.decoder=unte": "Did you mean 'unet'",
    "train recipe.toml -o run --set data.root=gone": "There is no folder gone",
    "train recipe.toml -o run --set data.name=camvd": "Did you mean 'camvid'",
    "train recipe.toml -o file": "file is a file",
    "train recipe.toml -o earlier": "earlier holds a run already",
    "evaluate gone.onnx .": "There is no file gone.onnx",
    "info gone.safetensors": "There is no file gone.safetensors",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory, python):
    folder = tmp_path_factory.mktemp("early")
    (folder / "earlier").mkdir()
    for name in ("file", "fcn-resnet50.onnx", "fcn-resnet18.onnx", "earlier/resume.pt"):
        (folder / name).touch()
    Image.new("RGB", (9, 9)).save(folder / "photo.jpg")
    (folder / "labels.txt").write_text("sky\nroad\n")
    (folder / "recipe.toml").write_text('[data]\nname = "folder"\nroot = "."\n')
    words = json.dumps([line.split() for line in REFUSED])
    done = python(f"import os\nos.chdir({str(folder)!r})\n{SCRIPT}", words, SEGZOO_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    before = {"earlier", "file", "photo.jpg", "fcn-resnet50.onnx", "fcn-resnet18.onnx", "labels.txt", "recipe.toml"}
    assert {path.name for path in folder.iterdir()} == before, "something was written"
    return dict(zip(REFUSED, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("line", "message"), REFUSED.items(), ids=list(REFUSED))
def test_a_mistake_is_refused_without_torch(refused, line, message):
    code, stderr, imported = refused[line]
    assert code in (1, 2)
    assert message in re.sub(r"[\s\u2502]+", " ", stderr)
    assert imported == []
