"""`segzoo bench`."""

import json
import re

import pytest

from segzoo.cli import bench
from segzoo.errors import SegzooError
from segzoo.inference import Session


def rows(text: str) -> list[list[str]]:
    """The cells of a table in a pipe."""
    lines = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    return [cells for cells in lines if len(cells) == 7]


def test_it_measures_each_size_and_batch(segzoo_, exported, tmp_path):
    words = ("--sizes", "48x64,32", "--batches", "1,2", "--runs", 4, "--device", "cpu", "--threads", 1)
    done = segzoo_("bench", exported[1], *words, "--json", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    head, *body = rows(done.stdout)
    assert head == ["size (H x W)", "batch", "p50 ms", "p99 ms", "images/s", "peak RSS MB", "runs"]
    assert [row[:2] for row in body] == [["32 x 32", "1"], ["32 x 32", "2"], ["48 x 64", "1"], ["48 x 64", "2"]]
    assert "It runs on cpu" in done.stderr and "Memory is" in done.stderr
    facts = json.loads((tmp_path / "a.json").read_text())
    assert (facts["device"], facts["threads"], facts["io"]) == ("cpu", 1, "image")
    for case, row in zip(facts["cases"], body, strict=True):
        assert 0 < case["p50_ms"] <= case["p99_ms"]
        assert case["runs"] == 4 and row[6] == "4"
        assert 20 < case["peak_rss_mb"] < 100_000
        # The mean lies between half of the median and the slowest of four.
        assert 0.2 < case["images_per_second"] * case["p50_ms"] / 1e3 / case["batch"] < 2.01


def test_it_needs_no_torch(imports, exported):
    done = imports("bench", exported[1], "--sizes", "32", "--batches", "1", "--runs", "1", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "32 x 32" in done.stdout


@pytest.fixture(scope="module")
def fixed(segzoo_once, tmp_path_factory):
    path = tmp_path_factory.mktemp("fixed") / "fixed.onnx"
    words = ("--encoder", "test_resnet", "--classes", 3, "--io", "tensor", "--fixed", "2,32,64", "-o", path)
    assert segzoo_once("export", "fcn", *words).exit_code == 0
    return path


def test_a_fixed_file_of_tensors_is_measured_at_its_own_size(segzoo_, fixed):
    done = segzoo_("bench", fixed, "--seconds", 0, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert [(row[0], row[1], row[6]) for row in rows(done.stdout)[1:]] == [("32 x 64", "2", "3")]
    assert "leave --sizes out" in segzoo_("bench", fixed, "--sizes", "32", "--device", "cpu").stderr
    assert "leave --batches out" in segzoo_("bench", fixed, "--batches", "1", "--device", "cpu").stderr


def test_one_case_that_fails_does_not_stop_the_rest(segzoo_, exported, monkeypatch):
    run = Session.run

    def full(self, batch):
        if len(batch) == 2:
            raise SegzooError("out of memory")
        return run(self, batch)

    monkeypatch.setattr(Session, "run", full)
    done = segzoo_("bench", exported[1], "--sizes", "32", "--batches", "1,2,3", "--runs", 1, "--device", "cpu")
    assert done.exit_code == 1
    assert [row[1] for row in rows(done.stdout)[1:]] == ["1", "3"]
    assert "2 x 32 x 32 failed: out of memory" in done.stderr and "1 of 3 cases failed." in done.stderr


@pytest.mark.parametrize(
    ("words", "code"), [("--sizes 0", 2), ("--sizes 3x", 2), ("--batches a", 2), ("--json no/a", 1)]
)
def test_what_cannot_be_meant_is_refused(segzoo_, exported, words, code):
    assert segzoo_("bench", exported[1], *words.split()).exit_code == code


def test_a_checkpoint_is_refused_with_advice(segzoo_, checkpoint):
    done = segzoo_("bench", checkpoint)
    assert (done.exit_code, f"`segzoo export {checkpoint}` writes one" in done.stderr) == (1, True)


def test_the_gpus_memory_is_said_not_to_be_measured():
    assert "GPU is not measured" in bench._memory("cuda:0")
    assert "GPU" not in bench._memory("cpu")
