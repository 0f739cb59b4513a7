"""A model's spec survives the trip through a file's metadata, and a damaged one names every fault."""

import json
import math
import re
from dataclasses import fields
from typing import Any

import pytest

from segzoo import __version__, spec
from segzoo.classes import ClassSet
from segzoo.errors import OptionError
from segzoo.spec import FORMAT_VERSION, ExportSpec, ModelSpec

RECORD = {
    "encoder": "vgg16",
    "num_classes": 11,
    "mean": [0.485, 0.456, 0.406],
    "classes": {"names": ["Sky", "Größe"], "ignore_index": None},
}


# encode and decode


def test_a_record_survives_the_trip() -> None:
    assert spec.decode(spec.encode(RECORD)) == RECORD


def test_every_value_is_a_json_string_under_our_prefix() -> None:
    pairs = spec.encode(RECORD)
    assert pairs["segzoo.encoder"] == '"vgg16"'
    assert pairs["segzoo.num_classes"] == "11"
    assert all(key.startswith("segzoo.") and isinstance(value, str) for key, value in pairs.items())


def test_keys_of_others_are_left_out() -> None:
    assert spec.decode({"author": "someone", "format": "pt", "segzoo.input": '"image"'}) == {"input": "image"}


def test_a_file_of_others_has_no_record() -> None:
    assert spec.decode({"author": "someone"}) == {}
    assert ModelSpec.from_metadata({"author": "someone"}) is None


@pytest.mark.parametrize("value", ["image", "", "[" * 100_000, "9" * 5000])
def test_invalid_json_is_refused(value: str) -> None:
    with pytest.raises(OptionError, match=r"segzoo\.input is not JSON"):
        spec.decode({"segzoo.input": value})


def test_the_error_of_invalid_json_says_what_was_expected() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        spec.decode({"segzoo.input": "image"})


# ModelSpec

MULTICLASS = ModelSpec(
    decoder="unet",
    encoder="resnet18",
    classes=ClassSet.generic(3),
    options={"upsample": "bilinear", "decoder_channels": [64, 32], "center": None},
    in_channels=2,
    input_dtype="uint16",
    mean=(0.25, 0.5),
    std=(0.125, 1.0),
    output_stride=16,
    size_divisibility=32,
    min_size=64,
    info={"metrics": {"mean_iou": 0.5}, "license": "CC0", "nested": [{"a": [1, None, True]}]},
)
BINARY = ModelSpec("paper/unet", None, ClassSet.generic(2), task="binary", output_stride=None, in_channels=1)
MULTILABEL = ModelSpec(
    "fcn",
    "vgg16",
    ClassSet(("Größe", "b", "c", "d"), ((0, 0, 0),) * 4, 255),
    task="multilabel",
    input_dtype="float32",
    channel_order="BGR",
)
SPECS = pytest.mark.parametrize("model", [MULTICLASS, BINARY, MULTILABEL], ids=lambda model: model.task)


@SPECS
def test_a_spec_survives_the_trip(model: ModelSpec) -> None:
    assert ModelSpec.from_dict(model.to_dict()) == model
    assert ModelSpec.from_dict(json.loads(json.dumps(model.to_dict()))) == model
    assert ModelSpec.from_metadata(model.to_metadata()) == model


@SPECS
def test_metadata_is_one_json_pair_per_field(model: ModelSpec) -> None:
    pairs = model.to_metadata()
    assert set(pairs) == {f"segzoo.{field.name}" for field in fields(ModelSpec)}
    assert {key.removeprefix("segzoo."): json.loads(value) for key, value in pairs.items()} == model.to_dict()
    again = ModelSpec.from_metadata(pairs | {"author": "someone"})
    assert again is not None
    assert again.to_metadata() == pairs


@pytest.mark.parametrize(("model", "channels"), [(MULTICLASS, 3), (BINARY, 1), (MULTILABEL, 4)])
def test_channels_of_the_logits(model: ModelSpec, channels: int) -> None:
    assert model.num_classes == channels


@pytest.mark.parametrize(("model", "title"), [(MULTICLASS, "unet on resnet18"), (BINARY, "paper/unet")])
def test_the_title(model: ModelSpec, title: str) -> None:
    assert model.title == title


def test_to_dict_is_a_copy_of_json_values() -> None:
    model = MULTICLASS.replace(options={"decoder_channels": (64, 32)})
    record = model.to_dict()
    assert record["options"] == {"decoder_channels": [64, 32]}
    assert record["mean"] == [0.25, 0.5]
    record["info"]["license"] = record["options"]["decoder_channels"] = record["classes"]["names"][0] = "other"
    assert model.info["license"] == "CC0"
    assert model.options == {"decoder_channels": [64, 32]}  # as in a file, not the tuple that was passed
    assert model.classes == ClassSet.generic(3)


def test_the_writer_states_its_own_version() -> None:
    older = MULTICLASS.replace(version="0.0.1")
    assert older.to_dict()["version"] == "0.0.1"
    written = ModelSpec.from_metadata(older.to_metadata())
    assert written is not None
    assert (written.version, written.format_version) == (__version__, FORMAT_VERSION)


def test_unknown_keys_are_ignored() -> None:
    assert ModelSpec.from_dict(MULTICLASS.to_dict() | {"color_space": "linear"}) == MULTICLASS
    pairs = MULTICLASS.to_metadata() | {"segzoo.color_space": '"linear"'} | ExportSpec().to_metadata()
    assert ModelSpec.from_metadata(pairs) == MULTICLASS


ADDED_LATER = {"context", "requires"}


def test_fields_that_were_added_later_may_be_missing() -> None:
    record = MULTICLASS.to_dict()
    for name in ADDED_LATER:
        del record[name]
    assert ModelSpec.from_dict(record) == MULTICLASS


@pytest.mark.parametrize("name", [field.name for field in fields(ModelSpec) if field.name not in ADDED_LATER])
def test_a_missing_field_is_named(name: str) -> None:
    record = MULTICLASS.to_dict()
    del record[name]
    with pytest.raises(OptionError, match=f"^{name} is missing\\.$"):
        ModelSpec.from_dict(record)


WRONG = {
    "decoder": ("a string", [None, 3, ["unet"]]),
    "encoder": ("a string or null", [3, False, {}]),
    "classes": ("an object", [None, ["a", "b"], "camvid"]),
    "task": ("'multiclass', 'binary' or 'multilabel'", ["Binary", "panoptic", None, 1, ["binary"]]),
    "options": ("an object", [None, [], "x"]),
    "in_channels": ("a whole number", [True, 3.0, "3", None]),
    "input_dtype": ("'uint8', 'uint16' or 'float32'", ["float16", "int8", None, 8]),
    "channel_order": ("'RGB' or 'BGR'", ["rgb", "RGBA", None]),
    "mean": ("a list of numbers", [None, 0.5, "0.5", ["0.5", "0.5"], [True, False], [None, None], {"0": 1}]),
    "std": ("a list of numbers", [None, 1, [1.0, "1"], [[1.0], [1.0]], [1, True]]),
    "output_stride": ("a whole number or null", [True, 16.0, "16"]),
    "size_divisibility": ("a whole number", [True, 1.5, None, "32"]),
    "min_size": ("a whole number", [False, 1.5, None]),
    "context": ("a whole number or null", [True, 1.5, "8"]),
    "requires": ("a list of strings", [None, "mymodule", [1], {"mymodule": 1}]),
    "info": ("an object", [None, [], "MIT"]),
    "version": ("a string", [None, 1, 0.1]),
    "format_version": ("a whole number", [None, True, 1.0, "1"]),
}


@pytest.mark.parametrize(
    ("name", "expected", "value"), [(name, what, value) for name, (what, values) in WRONG.items() for value in values]
)
def test_a_field_of_another_type_is_named(name: str, expected: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        ModelSpec.from_dict(MULTICLASS.to_dict() | {name: value})
    assert str(caught.value).startswith(f"{name} must be {expected}, not ")


def test_every_field_has_wrong_values_above() -> None:
    assert set(WRONG) == {field.name for field in fields(ModelSpec)}


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        ModelSpec.from_dict({name: values[0] for name, (_, values) in WRONG.items() if name != "info"})
    faults = str(caught.value).removesuffix(".").split("; ")
    assert faults[0] == "info is missing"
    assert [fault.split(" must be ")[0] for fault in faults[1:]] == [name for name in WRONG if name != "info"]
    required = [name for name in WRONG if name not in ADDED_LATER]
    with pytest.raises(OptionError, match=f"^{'; '.join(f'{name} is missing' for name in required)}\\.$"):
        ModelSpec.from_dict({})


@pytest.mark.parametrize("names", [("mine",), ("pack.fpn", "my-module"), ("_x.y2", "größe"), ()])
def test_names_of_modules_are_allowed(names: tuple[str, ...]) -> None:
    assert MULTICLASS.replace(requires=names).requires == names


@pytest.mark.parametrize(
    "names",
    [("x; rm y",), ("\x1b[2Jx",), ("-m",), ("",), ("a..b",), (".a",), ("a.",), ("x\n",), ("a" * 201,), ("a", "b", "c")],
    ids=repr,
)
def test_what_is_no_name_of_a_module_is_refused_briefly(names: tuple[str, ...]) -> None:
    with pytest.raises(OptionError, match="requires must be the names of at most two modules, not") as raised:
        MULTICLASS.replace(requires=names)
    assert len(str(raised.value)) < 200 and str(raised.value).isprintable()


def test_a_long_value_is_not_repeated_in_full() -> None:
    with pytest.raises(OptionError) as caught:
        ModelSpec.from_dict(MULTICLASS.to_dict() | {"encoder": ["resnet18"] * 100_000, "task": "x" * 100_000})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("record", [None, [], "unet", 3, [["decoder", "unet"]]])
def test_a_spec_is_an_object(record: Any) -> None:
    with pytest.raises(OptionError, match="A spec is an object with fields"):
        ModelSpec.from_dict(record)
    with pytest.raises(OptionError, match="A spec is an object with fields"):
        ExportSpec.from_dict(record)


@pytest.mark.parametrize("rest", [MULTICLASS.to_dict(), {"decoder": 7}, {}])
def test_a_newer_format_is_refused_first(rest: dict[str, Any]) -> None:
    newer = {"format_version": FORMAT_VERSION + 1}
    for read in (lambda: ModelSpec.from_dict(rest | newer), lambda: ModelSpec.from_metadata(spec.encode(rest | newer))):
        with pytest.raises(OptionError, match=f"format version {FORMAT_VERSION + 1}, .* Update segzoo"):
            read()


@pytest.mark.parametrize("names", [("mean",), ("std",), ("mean", "std")])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_normalization_is_finite(names: tuple[str, ...], value: float) -> None:
    change = {name: [0.5, value] for name in names}
    with pytest.raises(OptionError, match="mean and std must be 2 finite numbers each"):
        MULTICLASS.replace(**change)
    with pytest.raises(OptionError, match="mean and std must be 2 finite numbers each"):
        ModelSpec.from_metadata(spec.encode(MULTICLASS.to_dict() | change))


@pytest.mark.parametrize("change", [{"mean": [0.5] * 3}, {"std": [0.5]}, {"mean": []}, {"std": []}, {"in_channels": 3}])
def test_normalization_has_a_number_per_channel(change: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"mean and std must be \d finite numbers each"):
        ModelSpec.from_dict(MULTICLASS.to_dict() | change)


@pytest.mark.parametrize("value", [0, -0.5])
def test_the_standard_deviation_is_positive(value: float) -> None:
    with pytest.raises(OptionError, match="std must be above 0, not"):
        ModelSpec.from_dict(MULTICLASS.to_dict() | {"std": [1, value]})


def test_normalization_becomes_floats() -> None:
    model = ModelSpec.from_dict(MULTICLASS.to_dict() | {"mean": [0, 1], "std": [1, 2]})
    assert (model.mean, model.std) == ((0.0, 1.0), (1.0, 2.0))
    assert all(type(value) is float for value in (*model.mean, *model.std))


@pytest.mark.parametrize("name", ["in_channels", "output_stride", "size_divisibility", "min_size", "format_version"])
@pytest.mark.parametrize("value", [0, -3])
def test_sizes_are_positive(name: str, value: int) -> None:
    with pytest.raises(OptionError, match=f"{name} must be 1 or more, not {value}"):
        ModelSpec.from_dict(BINARY.to_dict() | {name: value})


@pytest.mark.parametrize("names", [1, 3])
def test_a_binary_model_has_two_names(names: int) -> None:
    with pytest.raises(OptionError, match=f"task 'binary' needs two class names, not {names}"):
        BINARY.replace(classes=ClassSet.generic(names))
    with pytest.raises(OptionError, match=f"task 'binary' needs two class names, not {names}"):
        ModelSpec.from_dict(BINARY.to_dict() | {"classes": ClassSet.generic(names).to_dict()})


@pytest.mark.parametrize("name", ["task", "input_dtype", "channel_order"])
def test_a_spec_made_in_memory_is_checked_too(name: str) -> None:
    with pytest.raises(OptionError, match=f"{name} must be .*, not 'other'"):
        MULTICLASS.replace(**{name: "other"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a", "a"], "palette": [[0, 0, 0]] * 2}, "given twice: a"),
        ({"names": ["a"]}, "needs a list under 'palette'"),
        ({"palette": []}, "needs a list under 'names'"),
    ],
)
def test_an_invalid_class_set_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ModelSpec.from_dict(MULTICLASS.to_dict() | {"classes": change})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": True}, "in_channels must be a whole number, not True"),
        ({"output_stride": 1.5}, "output_stride must be a whole number or null, not 1.5"),
        ({"decoder": 3}, "decoder must be a string, not 3"),
        ({"classes": None}, "classes must be an object, not None"),
        ({"mean": None}, "mean must be a list of numbers, not None"),
        ({"options": {"a": {1}}}, "options must hold JSON values"),
        ({"info": {"a": math.nan}}, "info must hold JSON values"),
        ({"std": (1e-50, 1.0)}, "mean and std must be numbers that float32 can hold"),
    ],
)
def test_the_constructor_names_what_is_not_allowed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        MULTICLASS.replace(**changes)


def test_a_spec_has_its_own_copy_of_options_and_info() -> None:
    options = {"channels": [1]}
    spec = MULTICLASS.replace(options=options, info=options)
    options["channels"].append(2)
    assert spec.options == spec.info == {"channels": [1]}
    assert ModelSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("pairs", [None, 5, {1: "x"}, {"segzoo.decoder": 5}, {"segzoo.decoder": None}])
def test_metadata_are_pairs_of_strings(pairs: Any) -> None:
    for record in (ModelSpec, ExportSpec):
        with pytest.raises(OptionError, match="Metadata must be pairs of strings"):
            record.from_metadata(pairs)
