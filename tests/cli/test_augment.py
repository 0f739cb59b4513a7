"""`segzoo augment`."""

import json
import re

import pytest
from PIL import Image
from small_data import random_ids, write_image, write_mask

RECIPE = """
epochs = 3

[[augmentation]]
name = "crop"
height = 30
width = 20

[[augmentation]]
name = "blur"
sigma = [1, 2]
"""


@pytest.fixture
def mydata(tmp_path):
    folder = tmp_path / "mydata"
    for index in range(3):
        write_image(folder / "images" / f"{index}.png", index, (60, 80))
        write_mask(folder / "masks" / f"{index}.png", random_ids(3, index, (60, 80)))
    (folder / "classes.json").write_text(json.dumps({"names": ["road", "sky", "tree"]}))
    return folder


def properties(done):
    assert done.exit_code == 0, done.stderr
    return dict(re.findall(r"^(\S+) +(\S.*?) *$", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("name", ["sheet.png", "sheet.jpg"])
def test_a_contact_sheet_is_written(segzoo_, mydata, tmp_path, name):
    done = segzoo_("augment", mydata, "--preview", tmp_path / name)
    rows = properties(done)
    assert rows["data"] == "mydata all, 3 images, 3 classes"
    assert rows["steps"] == "flip, crop, color_jitter, blur, noise"
    assert rows["wrote"] == str(tmp_path / name)
    assert re.fullmatch(r"\d+\.\d ms per image, on one CPU thread", rows["augmenting"])
    with Image.open(tmp_path / name) as sheet:
        assert sheet.width > 4 * 320 and sheet.height == 3 * 240 + 2 * 6
        assert sheet.format == {"png": "PNG", "jpg": "JPEG"}[name[-3:]]


def test_a_recipe_file_gives_the_steps(segzoo_, mydata, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    words = ("--recipe", tmp_path / "recipe.toml", "--preview", tmp_path / "a.png", "--exclude", "0", "--exclude", "1")
    rows = properties(segzoo_("augment", mydata, *words))
    assert (rows["steps"], rows["data"]) == ("crop, blur", "mydata all, 1 images, 3 classes")


def test_a_seed_reproduces_a_sheet(segzoo_, mydata, tmp_path):
    sheets = []
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        properties(segzoo_("augment", mydata, "--size", "20,30", "--seed", seed, "--preview", tmp_path / name))
        sheets.append((tmp_path / name).read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--preview", "sheet.gif"), "takes a .png or .jpg file, not sheet.gif"),
        (("--data", "camvit"), "Did you mean 'camvid'?"),
        (("--data", "camvid"), "Source: the folder CamVid of https"),
        (("--split", "val"), "Unknown split of this folder 'val'"),
        (("--select", "x*"), "No image of mydata all matches 'x*'"),
        (("--recipe", "none.toml"), "none.toml: No such file"),
        (("--recipe", "empty.toml"), "has no [[augmentation]] tables"),
        (("--recipe", "broken.toml"), "broken.toml is not valid TOML"),
        (("--recipe", "wrong.toml"), "Did you mean 'flip'?"),
        (("--recipe", "wrong.toml", "--size", "3"), "--size applies to the default recipe only"),
    ],
)
def test_a_mistake_is_one_line_and_writes_no_picture(segzoo_, mydata, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.toml").write_text("epochs = 3")
    (tmp_path / "broken.toml").write_text("epochs =")
    (tmp_path / "wrong.toml").write_text('[[augmentation]]\nname = "flpi"')
    done = segzoo_("augment", mydata, *words)
    assert done.exit_code == 1
    assert message in done.stderr and done.stderr.splitlines()[-1].startswith("Error: ")
    assert not list(tmp_path.glob("*.png"))
