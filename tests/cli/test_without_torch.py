"""`segzoo list` and `segzoo info` where neither PyTorch nor what needs it can be imported."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segzoo._registry import DECODERS, PAPERS
from segzoo.weights.catalog import list_weights

BLOCKED = """
import sys

class Blocked:
    packages = ("torch", "timm", "torchvision", "onnx", "onnxscript", "scipy", "lightning")
    modules = ("segzoo.models", "segzoo.data")
    allowed = ("segzoo.data", "segzoo.data.images", "segzoo.data.video")

    def find_spec(self, name, path=None, target=None):
        blocked = name.partition(".")[0] in self.packages or ".".join(name.split(".")[:2]) in self.modules
        if blocked and name not in self.allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""
RUN = BLOCKED + "from segzoo.cli import app\napp(sys.argv[1:])"

Run = Callable[..., "subprocess.CompletedProcess[str]"]

WORDS = [
    *(
        ["list", *option]
        for option in ([], ["--weights"], ["--datasets"], ["--losses"], ["--transforms"], ["--metrics"])
    ),
    *(["info", name] for name in ("segnet", "unet", "paper/unet", "paper/conv_deconv", list_weights()[0])),
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_the_answer_is_the_same(words: list[str], python: Run, segzoo_: Callable[..., Any]) -> None:
    done = python(RUN, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == segzoo_(*words).stdout


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors"])
def test_a_file_is_described(
    suffix: str, python: Run, segzoo_: Callable[..., Any], exported: tuple[Any, Path], checkpoint: Path
) -> None:
    path = exported[1] if suffix == ".onnx" else checkpoint
    done = python(RUN, "info", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == segzoo_("info", path).stdout


@pytest.mark.parametrize(
    ("name", "similar"),
    [("segnett", "'segnet'"), ("paper/fcn9s", "'paper/fcn8s'"), ("fcn/resnet101", "'fcn/resnet101/coco-voc'")],
)
def test_similar_names_are_suggested(name: str, similar: str, python: Run) -> None:
    done = python(RUN, "info", name)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"Unknown decoder {name!r}. Did you mean {similar}" in done.stderr


@pytest.mark.parametrize("words", [("info", "resnet101"), ("list", "--encoders", "*")])
def test_encoders_need_it(words: tuple[str, ...], python: Run) -> None:
    """So this check can fail: a command that imports any of it would not succeed."""
    done = python(RUN, *words)
    assert done.returncode == 1 and done.stdout == "" and "segzoo.models" in done.stderr


@pytest.mark.parametrize("module", ["torch", "onnx", "scipy", "segzoo.training.losses", "segzoo.data.masks"])
def test_what_is_blocked_cannot_be_imported(module: str, python: Run) -> None:
    done = python(BLOCKED + f"import segzoo, segzoo.data.images\nprint('until here')\nimport {module}")
    assert (done.returncode, done.stdout) == (1, "until here\n") and "No module named" in done.stderr


def test_no_name_of_a_decoder_is_an_encoder_of_timm() -> None:
    """`segzoo info` does not ask timm about them."""
    import timm

    assert not [name for name in (*DECODERS, *PAPERS) if timm.is_model(name)]
