"""docs/from-smp.md, compared with segmentation-models-pytorch. tests/test_docs.py runs its code."""

import re
import warnings
from collections import Counter
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

import segzoo
from segzoo._registry import DECODERS, PAPERS

PAGE = (Path(__file__).parents[2] / "docs" / "from-smp.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[tuple[list[str], list[str]]]:
    """The names in the two cells of each row of the table under a heading."""
    section = PAGE.partition(f"### {heading}\n")[2].partition("\n#")[0]
    cells = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| ")][2:]
    return [(re.findall(r"`([^`]+)`", theirs), re.findall(r"`([^`]+)`", ours)) for theirs, ours in cells]


ENCODERS = {
    theirs: ours
    for left, right in rows("Names of encoders")
    # A short name in parentheses follows the name that it stands for.
    for theirs, ours in zip(left, [name for name in right if name not in ("mobilenet", "xception")], strict=False)
}
VARIANT = "timm-skresnet18"


def convolutions(network: nn.Module) -> Counter[torch.Size]:
    """How many kernels of each shape a network has, without VGG's classifier, which SMP cuts off."""
    shapes = [weight.shape for weight in network.parameters() if weight.ndim == 4]
    return Counter(shape for shape in shapes if shape[0] != 4096)


@pytest.mark.parametrize("name", [name for name in ENCODERS if not name.startswith("tu-")])
def test_an_encoder_is_the_same_network(name: str) -> None:
    ours = ENCODERS[name]
    assert ours in segzoo.list_encoders()
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SMP deprecates its prefix "timm-"
        original = smp.encoders.get_encoder(name)
        assert (convolutions(original) == convolutions(timm.create_model(ours, num_classes=0))) == (name != VARIANT)


def test_encoders_without_an_equivalent() -> None:
    (missing,) = [theirs for theirs, ours in rows("Names of encoders") if not ours]
    assert missing[1:] == ["mit_b0", "mit_b5"]
    assert set(missing) <= set(smp.encoders.get_encoder_names()) and not set(missing) & set(timm.list_models())


def test_every_architecture_is_in_the_table() -> None:
    table = rows("Names of architectures")
    named = [name for theirs, _ in table for name in theirs]
    assert sorted(named) == sorted(model.__name__ for model in smp.MODEL_ARCHITECTURES_MAPPING.values())
    assert len(named) == 12 and "Eleven of SMP's twelve architectures" in " ".join(PAGE.split())
    assert table[0] == (["Unet"], ["unet"])
    (_, only_ours) = table[-1]
    assert set(only_ours) <= set(DECODERS) and f"{len(PAPERS)} [networks of papers]" in PAGE


@torch.inference_mode()
def test_sizes_that_smp_takes() -> None:
    image = torch.zeros(1, 3, 33, 47)
    assert smp.Unet("resnet18", encoder_weights=None).eval()(image).shape == (1, 1, 33, 47)
    for name in ("FPN", "DeepLabV3Plus"):
        with pytest.raises(RuntimeError, match="Wrong input shape"):
            getattr(smp, name)("resnet18", encoder_weights=None).eval()(image)
