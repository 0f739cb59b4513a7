"""The record a file carries: what goes in comes out, beside other people's keys."""

import pytest

from segzoo import spec

RECORD = {
    "encoder": "vgg16",
    "num_classes": 11,
    "mean": [0.485, 0.456, 0.406],
    "labels": {"names": ["Sky", "Größe"], "ignored": None},
}


def test_a_record_survives_the_trip() -> None:
    assert spec.decode(spec.encode(RECORD)) == RECORD


def test_every_value_is_a_json_string_under_our_prefix() -> None:
    pairs = spec.encode(RECORD)
    assert pairs["segzoo.encoder"] == '"vgg16"'
    assert pairs["segzoo.num_classes"] == "11"
    assert all(key.startswith("segzoo.") and isinstance(value, str) for key, value in pairs.items())


def test_keys_of_others_are_left_out() -> None:
    assert spec.decode({"author": "someone", "format": "pt", "segzoo.io": '"image"'}) == {"io": "image"}


def test_a_file_of_others_has_no_record() -> None:
    assert spec.decode({"author": "someone"}) == {}


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        spec.decode({"segzoo.io": "image"})
