"""`segzoo bench`."""

import json
import re

import pytest

from segzoo.cli import bench
from segzoo.errors import SegzooError
from segzoo.inference import OnnxBackend


def rows(text: str) -> list[list[str]]:
    """The cells of a piped table."""
    lines = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    return [cells for cells in lines if len(cells) == 7]


def test_it_measures_each_size_and_batch(segzoo_, exported, tmp_path):
    words = ("--sizes", "48x64,32", "--batch-sizes", "1,2", "--runs", 4, "--device", "cpu", "--threads", 1)
    done = segzoo_("bench", exported[1], *words, "--json", tmp_path / "a.json")
    assert done.exit_code == 0, done.output
    header, *body = rows(done.stdout)
    assert header == ["size (H x W)", "batch", "p50 ms", "p99 ms", "images/s", "peak RSS MB", "runs"]
    assert [row[:2] for row in body] == [["32 x 32", "1"], ["32 x 32", "2"], ["48 x 64", "1"], ["48 x 64", "2"]]
    assert "on cpu, because device='cpu'" in done.stderr and "Peak RSS is" in done.stderr
    record = json.loads((tmp_path / "a.json").read_text())
    assert (record["device"], record["threads"], record["input"]) == ("cpu", 1, "image")
    for case, row in zip(record["cases"], body, strict=True):
        assert 0 < case["p50_ms"] <= case["p99_ms"]
        assert case["runs"] == 4 and row[6] == "4"
        assert 20 < case["peak_rss_mb"] < 100_000
        mean_ms = 1e3 * case["batch_size"] / case["images_per_second"]
        assert case["p50_ms"] / 2 <= mean_ms * 1.0001 and mean_ms <= case["p99_ms"] * 1.0001  # true of any four times


def test_it_needs_no_torch(imports, exported):
    done = imports("bench", exported[1], "--sizes", "32", "--batch-sizes", "1", "--runs", "1", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "32 x 32" in done.stdout


@pytest.fixture(scope="module")
def static(segzoo_once, tmp_path_factory, export_cache):
    path = tmp_path_factory.mktemp("static") / "static.onnx"
    words = ["--encoder", "test_resnet", "--num-classes", "3", "--input", "tensor", "--static-shape", "2,32,64", "-o"]
    with export_cache.cached_tracing():
        assert segzoo_once("export", "fcn", *words, path).exit_code == 0
    return path


def test_a_static_tensor_file_is_measured_at_its_own_shape(segzoo_, static):
    done = segzoo_("bench", static, "--seconds", 0, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert [(row[0], row[1], row[6]) for row in rows(done.stdout)[1:]] == [("32 x 64", "2", "3")]
    assert "Omit --sizes" in segzoo_("bench", static, "--sizes", "32", "--device", "cpu").stderr
    assert "Omit --batch-sizes" in segzoo_("bench", static, "--batch-sizes", "1", "--device", "cpu").stderr


def test_a_failed_case_does_not_stop_the_rest(segzoo_, exported, monkeypatch):
    run = OnnxBackend.run

    def out_of_memory(self, batch):
        if len(batch) == 2:
            raise SegzooError("out of memory")
        return run(self, batch)

    monkeypatch.setattr(OnnxBackend, "run", out_of_memory)
    done = segzoo_("bench", exported[1], "--sizes", "32", "--batch-sizes", "1,2,3", "--runs", 1, "--device", "cpu")
    assert done.exit_code == 1
    assert [row[1] for row in rows(done.stdout)[1:]] == ["1", "3"]
    assert "2 x 32 x 32 failed: out of memory" in done.stderr and "1 of 3 cases failed." in done.stderr


@pytest.mark.parametrize(
    ("words", "code"), [("--sizes 0", 2), ("--sizes 3x", 2), ("--batch-sizes a", 2), ("--json no/a", 1)]
)
def test_invalid_options_are_refused(segzoo_, exported, words, code):
    assert segzoo_("bench", exported[1], *words.split()).exit_code == code


def test_a_checkpoint_is_refused_with_advice(segzoo_, checkpoint):
    done = segzoo_("bench", checkpoint)
    assert (done.exit_code, f"`segzoo export {checkpoint}` writes one" in done.stderr) == (1, True)


def test_the_note_on_memory_excludes_the_gpu():
    assert "GPU memory is not measured" in bench._memory_note("cuda:0")
    assert "GPU" not in bench._memory_note("cpu")
