"""`segzoo list`."""

import dataclasses
import re
import sys

import pytest

from segzoo._registry import DATASETS, LOSSES, METRICS, TRANSFORMS
from segzoo.metrics import ConfusionMatrix
from segzoo.models.decoders import DECODERS
from segzoo.models.encoders import list_encoders
from segzoo.weights import catalog
from segzoo.weights.catalog import entries


@pytest.mark.parametrize("width", [None, "80"])
def test_every_decoder_is_listed_without_truncation(segzoo_, monkeypatch, width):
    if width:
        monkeypatch.setenv("COLUMNS", width)
    text = segzoo_("list").stdout
    assert "\N{HORIZONTAL ELLIPSIS}" not in text and "\x1b" not in text
    assert max(map(len, text.splitlines())) <= int(width or 200)
    words = re.sub(r"\s+", " ", text)
    for name, decoder in DECODERS.items():
        assert re.search(rf"^{name} +{decoder.default_encoder} ", text, re.MULTILINE), name
        assert re.search(r"arXiv (\d{4}\.\d{4,5})", decoder.paper)[1] in words
    for name in ("vgg16", "resnet101", "xception", "mobilenet", "unet"):
        assert name in words.partition("Encoders ")[2]


def test_encoders_are_one_per_line(segzoo_):
    assert segzoo_("list", "--encoders", "*resnet*").stdout.splitlines() == list_encoders("*resnet*")


@pytest.mark.parametrize(("pattern", "hint"), [("vgg", "'*vgg*' matches"), ("nothing", "'*' matches all")])
def test_a_pattern_that_matches_nothing_gets_a_hint(segzoo_, pattern, hint):
    done = segzoo_("list", "--encoders", pattern)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: No encoder matches") and hint in done.stderr


@pytest.fixture
def catalog_entries(monkeypatch):
    """A catalog with an entry of each source, one of them with the longest key that is likely."""
    web = entries()["fcn/resnet101/coco-voc"]
    ours = dataclasses.replace(web, source="package", urls=(), split="camvid val, 101 images")
    package = dataclasses.replace(ours, key="unet/mobilenetv4_conv_small/camvid", source="package")
    clone = dataclasses.replace(ours, key="deeplab_largefov/mobilenetv4_conv_small/camvid", source="repository")
    by_key = {entry.key: entry for entry in (web, package, clone)}
    monkeypatch.setattr(catalog, "_packaged", lambda: by_key)
    return by_key


def row_of(text, key):
    (line,) = (line for line in text.splitlines() if line.startswith(f"{key} "))
    return re.split(" {2,}", line)


@pytest.mark.parametrize("width", ["80", "100", "120", None])
def test_every_catalog_entry_is_listed_without_truncation(segzoo_, monkeypatch, catalog_entries, width):
    if width:
        monkeypatch.setenv("COLUMNS", width)
    text = segzoo_("list", "--weights").stdout
    assert max(map(len, text.splitlines())) <= int(width or 200)
    for key, entry in catalog_entries.items():
        row = row_of(text, key)
        assert row[0] == key and row[-1] == entry.source
        assert f"{100 * entry.metrics['mean_iou']:.2f}" in row


def test_metrics_are_listed_with_their_data(segzoo_, monkeypatch, catalog_entries):
    for width in ("84", "120"):
        monkeypatch.setenv("COLUMNS", width)
        text = segzoo_("list", "--weights").stdout
        assert "camvid val" in row_of(text, "unet/mobilenetv4_conv_small/camvid")
        assert "COCO val2017" in row_of(text, "fcn/resnet101/coco-voc")


def test_in_a_pipe_each_entry_is_one_line_with_all_columns(segzoo_, catalog_entries):
    text = segzoo_("list", "--weights").stdout
    assert re.split(" {2,}", text.splitlines()[0]) == [
        *("key", "mIoU %", "pixel accuracy %", "measured on", "params", "size", "source")
    ]
    row = row_of(text, "fcn/resnet101/coco-voc")
    assert row[1:] == ["63.70", "91.90", "COCO val2017", "54.3 M", "217.8 MB", "web"]


def test_the_packaged_model_is_named(segzoo_, catalog_entries):
    text = " ".join(segzoo_("list", "--weights").stdout.split())
    assert "predict and demo use unet/mobilenetv4_conv_small/camvid, which ships with segzoo" in text


def test_a_narrow_terminal_truncates_nothing(segzoo_, monkeypatch, catalog_entries):
    monkeypatch.setenv("COLUMNS", "40")
    lines = segzoo_("list", "--weights").stdout.splitlines()
    assert max(map(len, lines)) <= 40
    cells = "".join(line.split(" ")[0] for line in lines)
    assert all(key in cells for key in catalog_entries)


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("list", "--weights"),
        ("list", "--datasets"),
        ("list", "--losses"),
        ("info", "fcn/resnet101/coco-voc"),
        ("info", "unet"),
    ],
)
def test_piped_lines_have_no_trailing_spaces(segzoo_, words):
    lines = segzoo_(*words).stdout.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert len(lines) > 3


@pytest.mark.parametrize(
    ("option", "registry"), [("--datasets", DATASETS), ("--losses", LOSSES), ("--transforms", TRANSFORMS)]
)
def test_every_name_of_a_kind_is_listed_with_its_origin(segzoo_, option, registry):
    text = segzoo_("list", option).stdout
    for name in registry:
        row = row_of(text, name)
        assert row[-1] == (registry[name].plugin or "segzoo") and all(row), row


def test_the_metrics_of_a_report_are_listed(segzoo_):
    text = segzoo_("list", "--metrics").stdout
    for name in ConfusionMatrix(2).summary():
        assert row_of(text, name)[2] == "segzoo"


def test_options_are_listed_with_their_defaults(segzoo_):
    text = segzoo_("list", "--losses").stdout
    assert row_of(text, "focal")[2] == "gamma=2.0, weights=None"
    assert row_of(text, "lovasz")[2] == "-"
    steps = segzoo_("list", "--transforms").stdout
    assert row_of(steps, "crop")[2].startswith("height, width, scale=(1.0, 1.0)")


def test_two_lists_at_once_are_refused(segzoo_):
    done = segzoo_("list", "--losses", "--encoders", "*")
    assert done.exit_code == 1
    assert done.stderr == "Error: One list at a time: pass only one of --encoders, --losses.\n"


def test_a_module_of_ones_own_joins_the_lists(tmp_path, segzoo_, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "listed_module.py").write_text(
        "import segzoo\nfrom segzoo.training.losses import Dice\n\n"
        "@segzoo.register_loss('listed_loss')\nclass Mine(Dice):\n    'Dice of mine. More.'\n\n"
        "@segzoo.register_metric('listed_metric')\ndef metric(matrix):\n    return 0.5\n"
    )
    try:
        losses = segzoo_("list", "--losses", "--import", "listed_module").stdout
        assert row_of(losses, "listed_loss") == ["listed_loss", "Dice of mine", "smooth=0.0", "listed_module"]
        assert row_of(segzoo_("list", "--metrics").stdout, "listed_metric") == ["listed_metric", "-", "listed_module"]
    finally:
        for registry, name in ((LOSSES, "listed_loss"), (METRICS, "listed_metric")):
            registry._entries.pop(name, None)
            registry._objects.pop(name, None)
        sys.modules.pop("listed_module", None)
        sys.path.remove(str(tmp_path))
