"""The overloads of `segzoo.create` are those of the decoders' signatures."""

import ast

import pytest

import create_overloads


def overloads(text: str) -> list[str]:
    """The signatures between the marks, without layout."""
    inside = text.partition(create_overloads.BEGIN)[2].partition(create_overloads.END)[0]
    return [ast.dump(node) for node in ast.parse(inside).body]


def test_the_file_has_what_the_signatures_say() -> None:
    text = create_overloads.FILE.read_text(encoding="utf-8")
    expected = overloads(create_overloads.replaced(text))
    assert len(expected) > 8 and overloads(text) == expected


def test_a_changed_signature_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = create_overloads.FILE.read_text(encoding="utf-8")
    monkeypatch.setattr(create_overloads, "options", lambda network: "other: int = 1,")
    assert overloads(text) != overloads(create_overloads.replaced(text))
