"""`segzoo doctor`."""

import dataclasses

import pytest

from segzoo import inference


@pytest.mark.parametrize(("problems", "code"), [((), 0), (("No driver. Install it.",), 1)])
def test_it_prints_the_report_and_fails_if_cuda_cannot_work(segzoo_, monkeypatch, problems, code):
    report = dataclasses.replace(inference.doctor(), problems=problems)
    monkeypatch.setattr(inference, "doctor", lambda: report)
    done = segzoo_("doctor")
    assert (done.exit_code, done.stdout, done.stderr) == (code, f"{report}\n", "")


def test_it_needs_no_torch(imports):
    # Without a GPU the exit code is 1, which the script would take for a failure.
    first = "from segzoo import inference; inference.Report.ok = True; "
    done = imports("doctor", first=first)
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in done.stdout
