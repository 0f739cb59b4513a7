"""Progress and tables."""

import re
from pathlib import Path

import pytest

from segzoo.cli import console


@pytest.mark.parametrize(
    ("total", "unit", "lines"),
    [
        (3, "images", [r"1 of 3, [\d.]+ images/s, \d+ s left", r"2 of 3, [\d.]+ images/s, \d+ s left"]),
        (None, "frames", [rf"{done}, [\d.]+ frames/s" for done in (1, 2, 3)]),
        # A video may hold more frames than its header says.
        (2, "frames", [r"1 of 2, [\d.]+ frames/s, \d+ s left", r"3, [\d.]+ frames/s"]),
    ],
)
def test_a_bar_prints_rate_and_time_left_without_a_terminal(capsys, monkeypatch, total, unit, lines):
    monkeypatch.setattr(console, "_REPORT_SECONDS", 0.0)
    with console.Bar(total, unit) as bar:
        for _ in range(3):
            bar.advance()
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == len(lines)
    assert all(re.fullmatch(pattern, line) for pattern, line in zip(lines, printed, strict=True))


def test_a_terminal_gets_tables_with_styles(capsys, monkeypatch):
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "60"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    console.key_values([("name", "value")])
    assert "\x1b[36mname" in capsys.readouterr().out


@pytest.mark.parametrize("total", [3, None])
def test_a_bar_is_drawn_in_a_terminal(capsys, monkeypatch, total):
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "120"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    with console.Bar(total, "frames") as bar:
        for _ in range(3):
            bar.advance()
    drawn = capsys.readouterr().err
    assert "Segmenting" in drawn and "frames/s" in drawn and "time left" in drawn


def test_characters_that_change_the_terminal_are_escaped(capsys):
    hostile = "\x1b]0;title\x07\x1b[31mred\u202egnp\ud800 ok\ttab"
    shown = r"\x1b]0;title\x07\x1b[31mred\u202egnp\ud800 ok"
    for show in (console.line, console.note, console.error, console.prose, console.title):
        show(hostile)
        captured = capsys.readouterr()
        assert shown in captured.out + captured.err
    console.table(("name", "value"), [(hostile, "1")])
    console.key_values([("name", hostile)])
    console.note(console.failure(Path("a.png"), ValueError(hostile)))
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count(shown) == 3
    assert "\x1b" not in captured.out + captured.err
