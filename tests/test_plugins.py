"""A decoder, an encoder, a data set and a loss of one's own are known to Python, files, recipes and commands."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import segzoo
from segzoo._registry import DECODERS, ENCODERS, METRICS, REPORT_KEYS, TRANSFORMS
from segzoo.classes import ClassSet
from segzoo.data.augment import Augmentation
from segzoo.errors import CheckpointError, OptionError, SegzooError
from segzoo.metrics import ConfusionMatrix
from segzoo.plugins import import_plugin
from segzoo.training.evaluate import Evaluation
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
    path = segzoo.save(model, tmp_path / "model")
    with pytest.raises(OptionError, match="needs mymodule, which segzoo does not import"):
        read_recipe(path)
    assert module not in sys.modules and "mine" not in DECODERS


def read_recipe_record() -> dict[str, Any]:
    return {"plugins": ["mymodule"], "data": {"name": "folder", "root": "."}}


@pytest.mark.parametrize("content", ["raise KeyError('gone')", "1 +", "import not_there", "raise SystemExit(0)"])
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


class Positional(segzoo.Decoder):
    def __init__(self, features: Any, num_classes: int, width: int = 1) -> None: ...


class NotJson(segzoo.Decoder):
    def __init__(self, features: Any, num_classes: int, *, activation: Any = nn.ReLU) -> None: ...


class NotFinite(segzoo.Decoder):
    def __init__(self, features: Any, num_classes: int, *, scale: float = float("inf")) -> None: ...


class Fine(segzoo.Decoder):
    pass


@pytest.mark.parametrize(
    ("name", "decoder", "message"),
    [
        ("mine", NoDecoder, "'NoDecoder' must be a subclass of segzoo.Decoder"),
        ("mine", nn.Conv2d, "'Conv2d' must be a subclass of segzoo.Decoder"),
        ("mine", Wrong, r"Wrong must take \(features, num_classes\)"),
        ("mine", NoDefault, "every further argument needs a default"),
        ("mine", Positional, r"The option 'width' of Positional must be keyword-only: \(features, num_classes, \*"),
        ("mine", NotJson, "The default of 'activation' of NotJson must be a JSON value"),
        ("mine", NotFinite, "The default of 'scale' of NotFinite must be a JSON value"),
        ("unet", Fine, "The decoder 'unet' exists already, in segzoo"),
        ("paper/mine", Fine, "The name of a decoder has letters, digits"),
        ("", Fine, "The name of a decoder has letters, digits"),
        (None, Fine, "register_decoder takes a name"),
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


@pytest.mark.parametrize("given", [3, None, dict])
def test_a_value_that_takes_no_such_arguments_is_refused(given: Any) -> None:
    with pytest.raises(OptionError, match=r"must (take|be a function or a class that takes) \(root, split\)"):
        segzoo.register_dataset("mine")(given)
    with pytest.raises(OptionError, match=r"must (take|be a function or a class that takes) \(matrix\)"):
        segzoo.register_metric("mine")(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("splits", ["train", 3])
def test_splits_are_a_sequence(splits: Any) -> None:
    with pytest.raises(OptionError, match="splits= of 'mine' must be a sequence"):
        segzoo.register_dataset("mine", splits=splits)(lambda root, split: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("name", ["resnet50", "resnet50.a1_in1k", "xception"])
def test_an_encoder_does_not_replace_one_of_timm(name: str) -> None:
    class Mine(segzoo.Encoder):
        def __init__(self, in_channels: int, output_stride: int = 32) -> None: ...

    with pytest.raises(OptionError, match=f"The encoder '{name}' exists already, in timm"):
        segzoo.register_encoder(name)(Mine)
    assert name not in ENCODERS


def test_a_class_has_a_single_default_encoder() -> None:
    class Mine(Fine):
        pass

    segzoo.register_decoder("first", default_encoder="test_resnet")(Mine)
    with pytest.raises(OptionError, match="Mine has the default encoder 'test_resnet' already, so 'second' cannot"):
        segzoo.register_decoder("second", default_encoder="resnet50")(Mine)
    assert "second" not in DECODERS and DECODERS.load("first").default_encoder == "test_resnet"


def test_a_decoder_of_a_script_cannot_be_imported_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    script = f"{MODULE}\nsegzoo.save(segzoo.create('mine', num_classes=3), {str(path)!r})"
    assert in_a_new_process(script).returncode == 0
    with pytest.raises(CheckpointError, match="was registered by the script that wrote the file"):
        segzoo.load(path)


def test_a_registered_step_is_applied() -> None:
    @segzoo.register_transform("invert")
    @dataclass(frozen=True)
    class Invert:
        p: float = 1.0

        def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
            return 255 - image, mask

    image, mask = np.full((8, 8, 3), 55, np.uint8), np.zeros((8, 8), np.uint8)
    changed, same = Augmentation([{"name": "invert"}], 255)(image, mask)
    assert np.array_equal(changed, 255 - image) and np.array_equal(same, mask)


def test_a_step_that_cannot_be_called_is_refused() -> None:
    @dataclass(frozen=True)
    class Uncallable:
        p: float = 1.0

    with pytest.raises(OptionError, match=r"takes? \(self, image, mask, ignore_index\)"):
        segzoo.register_transform("mine")(Uncallable)


def test_an_encoder_of_a_module_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs/extending.md").read_text(encoding="utf-8")
    (tmp_path / "myown.py").write_text(page.partition("<!-- file: myown.py -->\n```python\n")[2].partition("```")[0])
    monkeypatch.chdir(tmp_path)
    described = in_a_new_process(COMMAND, "info", "patches", "--import", "myown")
    assert described.returncode == 0 and "Encoder patches" in described.stdout, described.stderr


def test_words_after_two_dashes_are_arguments() -> None:
    done = in_a_new_process(COMMAND, "info", "--", "--import")
    assert done.returncode == 1 and "'--import'" in done.stderr, done.stderr


def evaluation() -> Evaluation:
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 1]]))
    return Evaluation("data", ClassSet.generic(2), matrix, (), 1.0)


def test_a_metric_replaces_nothing_in_the_report() -> None:
    assert tuple(evaluation().to_dict()) == REPORT_KEYS
    for name in REPORT_KEYS:
        with pytest.raises(OptionError, match=f"The metric '{name}' exists already, in segzoo's reports"):
            segzoo.register_metric(name)(lambda matrix: 0.5)
    assert not METRICS


@pytest.mark.parametrize("returned", [ZeroDivisionError("nothing labeled"), "high"])
def test_a_metric_that_fails_is_named(returned: Any) -> None:
    @segzoo.register_metric("broken")
    def broken(matrix: ConfusionMatrix) -> float:
        if isinstance(returned, Exception):
            raise returned
        return returned  # type: ignore[no-any-return]

    with pytest.raises(OptionError, match=r"The metric 'broken' failed: (ZeroDivisionError|ValueError): "):
        evaluation().to_dict()


def test_a_metric_is_reported() -> None:
    @segzoo.register_metric("first_iou")
    def first_iou(matrix: ConfusionMatrix) -> float:
        return float(matrix.iou[0])

    assert METRICS.load("first_iou") is first_iou
    record = evaluation().to_dict()
    assert record["first_iou"] == 0.5 and "mean_iou" in record


@pytest.mark.parametrize("kind", ["decoder", "encoder", "dataset", "loss", "transform", "metric"])
def test_a_decorator_without_parentheses_is_refused(kind: str) -> None:
    with pytest.raises(OptionError, match=rf'register_{kind} takes a name: @segzoo\.register_{kind}\("mine"\)'):
        getattr(segzoo, f"register_{kind}")(ConfusionMatrix)


@pytest.mark.parametrize("name", ["../own/mymodule", "./mymodule", ".mymodule", "", "a b"])
def test_a_path_is_not_the_name_of_a_module(name: str) -> None:
    with pytest.raises(SegzooError, match=r"is not the name of a module\. Pass a name such as 'mymodule'"):
        import_plugin(name)


def test_the_recipe_in_a_checkpoint_asks_for_its_modules_and_imports_none(tmp_path: Path) -> None:
    recipe = {"plugins": ["absent_one", "absent_two"], "model": {"decoder": "mine"}, "data": {"name": "x", "root": "."}}
    model = segzoo.create("unet", encoder="test_resnet", num_classes=2).with_info(recipe=recipe)
    path = segzoo.save(model, tmp_path / "own")
    with pytest.raises(OptionError, match=r"needs absent_one, absent_two, which segzoo does not import .* --import"):
        read_recipe(path)


def test_a_plugin_that_lacks_a_package_is_not_called_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "with_a_lack.py").write_text("import no_such_package_at_all\n")
    with pytest.raises(SegzooError, match=r"No module named 'no_such_package_at_all'\. Install what it imports\."):
        import_plugin("with_a_lack")
    with pytest.raises(SegzooError, match=r"Pass the name of a module, without \.py"):
        import_plugin("no_such_package_at_all.inner")
