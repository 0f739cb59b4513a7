"""The spec of an exported graph survives the trip through a file's metadata, and a damaged one names every fault."""

import json
from dataclasses import fields
from typing import Any

import pytest

from segzoo.classes import ClassSet
from segzoo.errors import OptionError
from segzoo.spec import ExportSpec, ModelSpec

MODEL = ModelSpec("unet", "resnet18", ClassSet.generic(3))

EXPORTS = (
    ExportSpec(),
    ExportSpec("tensor", logits=True),
    ExportSpec("image", "fp16", confidence=True, logits=True, opset=21, padded_logits="padded_logits"),
    ExportSpec(
        "image",
        "int8",
        (2, 360, 480),
        weights_sha256="5e" * 32,
        torch="2.11.0",
        verification={"cases": [{"fraction_close": 1.0}]},
        quantization={"pixel_agreement": 0.99},
    ),
)


@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_survives_the_trip(export: ExportSpec) -> None:
    assert ExportSpec.from_dict(json.loads(json.dumps(export.to_dict()))) == export
    assert ExportSpec.from_metadata(MODEL.to_metadata() | export.to_metadata()) == export
    assert list(export.to_metadata()) == ["segzoo.export"]
    assert ExportSpec.from_dict(export.to_dict() | {"later": 1}) == export
    assert export.half == (export.precision == "fp16")


def test_a_file_without_an_export_is_refused() -> None:
    with pytest.raises(OptionError, match=r"^the record segzoo.export is missing\.$"):
        ExportSpec.from_metadata(MODEL.to_metadata())


@pytest.mark.parametrize("name", [field.name for field in fields(ExportSpec)])
def test_a_missing_field_of_an_export_is_named(name: str) -> None:
    record = ExportSpec().to_dict()
    del record[name]
    with pytest.raises(OptionError, match=f"^{name} is missing\\.$"):
        ExportSpec.from_dict(record)


WRONG_EXPORT = {
    "input": ("'image' or 'tensor'", ["video", None, 1]),
    "precision": ("'fp32', 'fp16' or 'int8'", ["int4", None, 32]),
    "static_shape": ("a list of 3 whole numbers or null", [[1, 2], [1, 2, 3, 4], [1, 2, 3.0], [True, 2, 3], 7, "123"]),
    "confidence": ("true or false", [None, 1, "true"]),
    "logits": ("true or false", [None, 0]),
    "opset": ("a whole number", [None, True, "18", 18.0]),
    "padded_logits": ("a string or null", [True, 1]),
    "weights_sha256": ("a string or null", [5, []]),
    "torch": ("a string or null", [2.11]),
    "verification": ("an object or null", [[], "passed", True]),
    "quantization": ("an object or null", [[], 0.99]),
}


@pytest.mark.parametrize(
    ("name", "expected", "value"),
    [(name, what, value) for name, (what, values) in WRONG_EXPORT.items() for value in values],
)
def test_a_field_of_an_export_of_another_type_is_named(name: str, expected: str, value: Any) -> None:
    with pytest.raises(OptionError) as caught:
        ExportSpec.from_dict(ExportSpec().to_dict() | {name: value})
    assert str(caught.value).startswith(f"{name} must be {expected}, not ")


def test_all_faults_of_an_export_are_named_at_once() -> None:
    assert set(WRONG_EXPORT) == {field.name for field in fields(ExportSpec)}
    with pytest.raises(OptionError) as caught:
        ExportSpec.from_dict({name: values[0] for name, (_, values) in WRONG_EXPORT.items()})
    assert [fault.split(" must be ")[0] for fault in str(caught.value).split("; ")] == list(WRONG_EXPORT)


@pytest.mark.parametrize("shape", [[0, 2, 3], [1, -2, 3]])
def test_a_static_shape_is_positive(shape: list[int]) -> None:
    with pytest.raises(OptionError, match="static_shape must be 1 or more"):
        ExportSpec.from_dict(ExportSpec().to_dict() | {"static_shape": shape})
