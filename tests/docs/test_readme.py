"""README.md says what is true. tests/test_docs.py runs its code."""

import re
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torchvision
from torchvision.models import get_model_weights, list_models, segmentation

import readme
import segzoo
from segzoo._registry import DECODERS, PAPERS, SHORT_NAMES
from segzoo.weights import catalog

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PLAIN = " ".join(TEXT.split())


def row(name: str) -> list[str]:
    """The cells of a row of the comparison: segzoo, segmentation-models-pytorch, torchvision, ..."""
    section = TEXT.partition("\n## How it differs\n")[2]
    (line,) = [line for line in section.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_table_of_models_is_that_of_the_catalog() -> None:
    assert readme.replaced(TEXT) == TEXT, "Run: python docs/readme.py"
    assert [key for key in catalog.entries() if f"\n| `{key}` |" not in TEXT] == []


def test_the_table_follows_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "fcn/resnet50/coco-voc"
    entry = catalog.find(key)
    monkeypatch.setattr(catalog, "_packaged", lambda: {key: entry})
    changed = readme.replaced(TEXT)
    assert changed != TEXT and changed.count("/camvid` |") == 0 and f"| `{key}` | 60.50 | COCO val2017 |" in changed
    with pytest.raises(ValueError, match="has no lines"):
        readme.replaced(TEXT.replace(readme.END, ""))


def test_set_up_commands_come_first() -> None:
    """Scripts read them there."""
    command = 'python -m pip install "nox[uv]" && python -m nox -s '
    fifth, sixth = TEXT.splitlines()[4:6]
    assert fifth.startswith(f"{command}demo ") and sixth.startswith(f"{command}tests ")


def test_the_numbers_are_right() -> None:
    encoders = [name for name in segzoo.list_encoders() if name not in SHORT_NAMES]
    assert set(re.findall(r"(\d+) encoders|: (\d+) with timm|timm's, (\d+) \|", TEXT)) == {
        ("857", "", ""),
        ("", "857", ""),
        ("", "", "857"),
    }
    if timm.__version__ == "1.0.31":
        assert len(encoders) == 857
    else:
        assert len(encoders) >= 800
    assert f"| {len(PAPERS)} exactly as published, from `paper/fcn8s` to `{list(PAPERS)[-1]}`;" in TEXT
    assert row("Architectures")[0].startswith(f"{len(DECODERS)} decoders") and f"{len(PAPERS)} networks" in TEXT
    entry = catalog.default()
    assert entry is not None and "367 images" in entry.data and "367 images" in PLAIN
    test_set = re.findall(r"the model in the package reaches ([\d.]+ %) mean IoU", PLAIN)
    results = " ".join((ROOT / "docs/results.md").read_text(encoding="utf-8").split())
    assert len(test_set) == 1 and f"test set**, which it has never seen: {test_set[0]} mean IoU" in results


def test_what_it_says_of_segmentation_models_pytorch() -> None:
    if smp.__version__ != "0.6.0":
        pytest.skip("The README describes 0.6.0.")
    names = [model.__name__ for model in smp.MODEL_ARCHITECTURES_MAPPING.values()]
    assert row("Architectures")[1] == f"{len(names)}, among them U-Net++, DeepLabV3+ and SegFormer"
    assert {"UnetPlusPlus", "DeepLabV3Plus", "Segformer"} <= set(names)
    assert row("Encoders")[1] == f"its own, {len(smp.encoders.get_encoder_names())}, and timm's"


def test_what_it_says_of_torchvision() -> None:
    if torchvision.__version__.partition("+")[0] != "0.29.2":
        pytest.skip("The README describes 0.29.2.")
    names = list_models(module=segmentation)
    weights = {weight.name for name in names for weight in get_model_weights(name)}
    assert row("Trained for segmentation")[2] == f"{len(names)}, with VOC's classes"
    assert weights == {"COCO_WITH_VOC_LABELS_V1"}
    assert {name.partition("_")[0] for name in names} == {"fcn", "deeplabv3", "lraspp"}
