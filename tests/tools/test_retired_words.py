"""tools/retired_words.py reports every word on its lists, and nothing in plain text."""

import fnmatch
import subprocess
import sys
from pathlib import Path

import pytest

import retired_words

ROOT = Path(__file__).parents[2]
BRITISH = """
behaviour neighbouring favourite labour centre centred metres fibre licence unlicenced licencing grey greyscale
catalogue catalogued artefact analyse analysing labelled modelling travelled normalise colourise optimiser organised
initialisation recognised serialiser visualisation quantised generalises regularisation summarised minimising maximise
penalised parametrised utilisation synchronised characterised customisable equalised localise finalised categorised
vectorised realising binarise tokeniser standardise polygonise rasterised convolutionised defence fulfil judgement
whilst amongst learnt
"""


@pytest.mark.parametrize("word", retired_words.IDENTIFIERS)
def test_every_identifier_is_reported_and_only_whole(word: str) -> None:
    text = f"first line\nx = {word}\n"
    assert (2, word, retired_words.IDENTIFIERS[word]) in list(retired_words.retired(text))
    exact = [match for _, match, _ in retired_words.retired(f"x = my_{word}_too")]
    assert word not in exact


@pytest.mark.parametrize("pattern", retired_words.PATTERNS)
def test_every_pattern_matches_its_example(pattern: str) -> None:
    instead, example = retired_words.PATTERNS[pattern]
    assert instead in {found for _, _, found in retired_words.retired(example)}


@pytest.mark.parametrize(
    "phrase", ["in silence", "to the letter", "goes on", "beside", "aside", "a name of its own.", "is had"]
)
def test_house_phrases_are_reported(phrase: str) -> None:
    assert len(list(retired_words.retired(f"It {phrase}"))) == 1


@pytest.mark.parametrize("word", BRITISH.split())
def test_british_spelling_is_reported(word: str) -> None:
    assert list(retired_words.retired(f"The {word}.")) and list(retired_words.retired(f"{word.capitalize()} it."))


@pytest.mark.parametrize(
    "text",
    [
        "Normalized colors of the gray center, analyzed and labeled; four hours, our contour, a detour and a paramour.",
        "Otherwise it raises, revises, advises, exercises, promises: precise, concise, a premise, an expertise.",
        "from segzoo.models.base import SegmentationModel; segzoo.inference.Session; segzoo.weights.catalog",
        "ClassSet(names, palette, ignore_index), mean_iou, fw IoU, padded_logits, parameters, license, metric, meter",
        "export(model, input='image', static_shape=None, confidence=True), --classes camvid --num-classes 5",
        "Besides, masks of its own size are at most this; consider the inside.",
        'numpy kinds "iu" and "f"; scores = model(x); labels = data; a switch that toggles',
    ],
)
def test_plain_text_is_not(text: str) -> None:
    assert list(retired_words.retired(text)) == []


def test_the_report_names_file_line_word_and_replacement(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("Fine.\nThe colour.\n", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff colour")
    assert retired_words.report(["page.md", "picture.png"], tmp_path) == ["page.md:2: colour -> -or"]


def test_an_allowed_use_is_not_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text('"colour" is quoted.\nThe colour.\n', encoding="utf-8")
    monkeypatch.setattr(retired_words, "ALLOWED", (("*.md", '"colour"'),))
    assert retired_words.report(["page.md"], tmp_path) == ["page.md:2: colour -> -or"]
    monkeypatch.setattr(retired_words, "ALLOWED", (("*.py", '"colour"'),))
    assert len(retired_words.report(["page.md"], tmp_path)) == 2


@pytest.mark.parametrize(("path", "allowed_use"), retired_words.ALLOWED)
def test_every_allowance_is_needed(path: str, allowed_use: str) -> None:
    """An allowance that no line needs would hide a mistake later."""
    if not (ROOT / ".git").exists():
        pytest.skip("not in a clone")
    needed = [
        line
        for file in fnmatch.filter(retired_words.tracked(), path)
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines()
        if retired_words.matches(file, line, path, allowed_use) and list(retired_words.retired(line))
    ]
    assert needed


@pytest.mark.parametrize(("text", "code"), [("The color.\n", 0), ("The colour.\n", 1)])
def test_the_exit_code_is_one_if_anything_is_reported(text: str, code: int, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    command = [sys.executable, str(ROOT / "tools/retired_words.py"), str(page)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("-> -or" in done.stdout) == bool(code)
