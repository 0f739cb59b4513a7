"""A decoder, an encoder, a data set and a loss of one's own are known to Python, files, recipes and commands."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import segzoo
from segzoo._registry import DECODERS, METRICS, TRANSFORMS
from segzoo.errors import CheckpointError, OptionError, SegzooError
from segzoo.metrics import ConfusionMatrix
from segzoo.plugins import import_plugin
from segzoo.training.recipe import read_recipe

pytestmark = pytest.mark.usefixtures("own_registries")

MODULE = '''
import segzoo


@segzoo.register_decoder("mine")
class Mine(segzoo.Decoder):
    """One convolution."""

    def __init__(self, features, num_classes, *, kernel=1):
        super().__init__(features, num_classes)
        from torch import nn
        self.head = nn.Conv2d(features.channels[-1], num_classes, kernel, padding=kernel // 2)

    default_encoder = "test_resnet"

    def forward(self, maps):
        return self.head(maps[-1])
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "mymodule.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return "mymodule"


def in_a_new_process(script: str, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", script, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


COMMAND = "import sys; from segzoo.cli import main; main()"


def test_a_file_names_the_module_that_it_needs_and_never_imports_it(module: str, tmp_path: Path) -> None:
    import_plugin(module)
    model = segzoo.create("mine", num_classes=3, kernel=3)
    assert model.spec.requires == (module,) and model.spec.encoder == "test_resnet"
    path = segzoo.save(model, tmp_path / "mine")
    assert np.array_equal(segzoo.load(path).predict(np.zeros((9, 9, 3), np.uint8)).mask.shape, (9, 9))

    done = in_a_new_process(
        f"import sys, segzoo\ntry: segzoo.load({str(path)!r})\nfinally: assert {module!r} not in sys.modules"
    )
    assert done.returncode == 1
    assert re.search(
        r"CheckpointError: .*mine on test_resnet comes from the module 'mymodule', which has not been imported\. "
        r"Import it first, or pass --import mymodule to a command, if you trust it\.",
        done.stderr,
    )
    found = in_a_new_process(COMMAND, "info", "mine", "--import", module)
    assert found.returncode == 0 and "kernel" in found.stdout, found.stderr
    assert in_a_new_process(COMMAND, "--import", module, "list").stdout.count("mine") > 0
    missing = in_a_new_process(COMMAND, "info", "mine")
    assert missing.returncode == 1 and "Unknown decoder or encoder 'mine'" in missing.stderr
    broken = in_a_new_process(COMMAND, "list", "--import=nothing_here")
    assert broken.returncode == 1 and "The module 'nothing_here' cannot be imported" in broken.stderr
    assert "Traceback" not in broken.stderr


def test_a_module_without_its_decoder_is_named(module: str, tmp_path: Path) -> None:
    import_plugin(module)
    path = segzoo.save(segzoo.create("mine", num_classes=3), tmp_path / "mine")
    del DECODERS._entries["mine"]
    with pytest.raises(CheckpointError, match="comes from the module 'mymodule', which has not been imported"):
        segzoo.load(path)


def test_a_recipe_imports_its_modules_and_a_checkpoint_does_not(module: str, tmp_path: Path) -> None:
    text = 'plugins = ["mymodule"]\nmodel = {decoder = "mine"}\ndata = {name = "folder", root = "."}\n'
    (tmp_path / "recipe.toml").write_text(text)
    assert read_recipe(tmp_path / "recipe.toml").plugins == ("mymodule",)
    assert "mine" in DECODERS
    del DECODERS._entries["mine"]
    del sys.modules[module]
    model = segzoo.create("fcn", "test_resnet", num_classes=2).with_info(recipe=read_recipe_record())
    read_recipe(segzoo.save(model, tmp_path / "model"))
    assert module not in sys.modules and "mine" not in DECODERS


def read_recipe_record() -> dict[str, Any]:
    return {"plugins": ["mymodule"], "data": {"name": "folder", "root": "."}}


@pytest.mark.parametrize("content", ["raise KeyError('gone')", "1 +", "import not_there"])
def test_an_import_that_fails_is_one_sentence(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SegzooError, match=r"'broken_module' (failed|cannot be imported): .*\.$"):
        import_plugin("broken_module")


class NoDecoder:
    pass


class Wrong(segzoo.Decoder):
    def __init__(self, features: Any, classes: int) -> None: ...


class NoDefault(segzoo.Decoder):
    def __init__(self, features: Any, num_classes: int, *, width: int) -> None: ...


class Fine(segzoo.Decoder):
    pass


@pytest.mark.parametrize(
    ("name", "decoder", "message"),
    [
        ("mine", NoDecoder, "'NoDecoder' must be a subclass of segzoo.Decoder"),
        ("mine", nn.Conv2d, "'Conv2d' must be a subclass of segzoo.Decoder"),
        ("mine", Wrong, r"Wrong must take \(features, num_classes\)"),
        ("mine", NoDefault, "every further argument needs a default"),
        ("unet", Fine, "The decoder 'unet' exists already, in segzoo"),
        ("paper/mine", Fine, "The name of a decoder has letters, digits"),
        ("", Fine, "The name of a decoder has letters, digits"),
        (None, Fine, "The name of a decoder has letters, digits"),
    ],
)
def test_what_is_no_decoder_is_refused(name: Any, decoder: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        segzoo.register_decoder(name, default_encoder="test_resnet")(decoder)
    assert "mine" not in DECODERS


def test_a_decoder_needs_a_default_encoder() -> None:
    with pytest.raises(OptionError, match="The decoder 'mine' needs a default encoder"):
        segzoo.register_decoder("mine")(Fine)


def test_other_registrations_are_checked_too() -> None:
    with pytest.raises(OptionError, match=r"must be a subclass of segzoo\.Encoder"):
        segzoo.register_encoder("mine")(NoDecoder)
    with pytest.raises(OptionError, match=r"must be a subclass of segzoo\.training\.losses\.Loss"):
        segzoo.register_loss("mine")(NoDecoder)
    with pytest.raises(OptionError, match="must be a dataclass with a field p"):
        segzoo.register_transform("mine")(NoDecoder)
    with pytest.raises(OptionError, match=r"must take \(root, split\)"):
        segzoo.register_dataset("mine")(lambda: None)  # type: ignore[arg-type, misc]
    assert "mine" not in TRANSFORMS


def test_a_metric_is_reported() -> None:
    from segzoo.classes import ClassSet
    from segzoo.training.evaluate import Evaluation

    @segzoo.register_metric("first_iou")
    def first_iou(matrix: ConfusionMatrix) -> float:
        return float(matrix.iou[0])

    assert METRICS.load("first_iou") is first_iou
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]]))
    record = Evaluation("data", ClassSet.generic(2), matrix, (), 1.0).to_dict()
    assert record["first_iou"] == 0.5 and "mean_iou" in record
