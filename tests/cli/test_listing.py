"""`segzoo list`."""

import re

import pytest

from segzoo.catalog import catalog
from segzoo.decoders import DECODERS
from segzoo.encoders import list_encoders


@pytest.mark.parametrize("width", [None, "80"])
def test_every_decoder_stands_in_the_table_whole(segzoo_, monkeypatch, width):
    if width:
        monkeypatch.setenv("COLUMNS", width)
    text = segzoo_("list").stdout
    assert "\N{HORIZONTAL ELLIPSIS}" not in text and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= int(width or 200)
    words = re.sub(r"\s+", " ", text)
    for name, kind in DECODERS.items():
        assert re.search(rf"^{name} +{kind.encoder} ", text, re.MULTILINE), name
        assert re.search(r"arXiv (\d{4}\.\d{4,5})", kind.paper)[1] in words
    for name in ("vgg16", "resnet101", "xception", "mobilenet", "unet"):
        assert name in words.partition("Encoders ")[2]


def test_encoders_are_one_a_line(segzoo_):
    assert segzoo_("list", "--encoders", "*resnet*").stdout.splitlines() == list_encoders("*resnet*")


@pytest.mark.parametrize(("pattern", "hint"), [("vgg", "'*vgg*' matches"), ("nothing", "'*' matches all")])
def test_a_pattern_that_matches_nothing_gets_a_hint(segzoo_, pattern, hint):
    done = segzoo_("list", "--encoders", pattern)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: No encoder matches") and hint in done.stderr


def test_every_entry_of_the_catalog_is_listed_whole(segzoo_, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = segzoo_("list", "--weights").stdout
    assert max(map(len, text.splitlines())) <= 80
    for key, entry in catalog().items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"{key} "))
        assert f"{100 * entry.metrics['mean_iou']:.1f}" in line


def test_the_catalog_needs_no_torch(imports):
    done = imports("list", "--weights")
    assert (done.returncode, done.stderr) == (0, "")
