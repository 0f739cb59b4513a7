"""`segzoo list` and `segzoo info` where only the runtime is installed."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segzoo._registry import DECODERS, PAPERS
from segzoo.weights.catalog import list_weights

Run = Callable[..., "subprocess.CompletedProcess[str]"]

WORDS = [
    *(
        ["list", *option]
        for option in ([], ["--weights"], ["--datasets"], ["--losses"], ["--transforms"], ["--metrics"])
    ),
    *(["info", name] for name in ("segnet", "unet", "paper/unet", "paper/conv_deconv", list_weights()[0])),
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_the_answer_is_the_same(words: list[str], alone: Run, segzoo_: Callable[..., Any]) -> None:
    done = alone(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == segzoo_(*words).stdout


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_a_file_is_described(
    suffix: str, alone: Run, segzoo_: Callable[..., Any], exported: tuple[Any, Path], checkpoint: Path
) -> None:
    path = exported[1] if suffix == ".onnx" else checkpoint
    done = alone("info", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == segzoo_("info", path).stdout


@pytest.mark.parametrize(
    ("name", "similar"),
    [("segnett", "'segnet'"), ("paper/fcn9s", "'paper/fcn8s'"), ("fcn/resnet101", "'fcn/resnet101/coco-voc'")],
)
def test_similar_names_are_suggested(name: str, similar: str, alone: Run) -> None:
    done = alone("info", name)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"Unknown decoder {name!r}. Did you mean {similar}" in done.stderr


@pytest.mark.parametrize("words", [("info", "resnet101"), ("list", "--encoders", "*")])
def test_encoders_need_it(words: tuple[str, ...], alone: Run) -> None:
    """So this check can fail: a command that imports any of it would not succeed."""
    done = alone(*words)
    assert done.returncode == 1 and done.stdout == ""
    assert "needs PyTorch and the whole of segmentation-zoo" in " ".join(done.stderr.split())


def test_no_name_of_a_decoder_is_an_encoder_of_timm() -> None:
    """`segzoo info` does not ask timm about them."""
    import timm

    assert not [name for name in (*DECODERS, *PAPERS) if timm.is_model(name)]
