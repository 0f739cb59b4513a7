"""`pytest --quick`: skips every test that exports, starts a process or builds a large network, when it is about to.

Nothing has to be marked for that. The mark `slow` is for tests that take long for another reason. Networks that a
module builds while it is imported are not noticed.
"""

import subprocess
from multiprocessing.process import BaseProcess
from typing import NoReturn

import pytest
import torch
from torch.nn.parameter import is_lazy

MAX_PARAMETERS = 4_000_000
"""Parameters that a test may build or load; timm's `test_*` models have half a million, ResNet-18 has 11 million."""


class Quick:
    """The plugin."""

    def __init__(self) -> None:
        self.parameters = 0
        self.patched = False
        self.counts = {"passed": 0, "skipped": 0}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        self.parameters = 0
        if not self.patched:  # not when pytest starts: pytest-xdist starts its workers with subprocess
            self._patch()
            self.patched = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome in self.counts and (report.when == "call" or report.outcome == "skipped"):
            self.counts[report.outcome] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fails a run of all tests that skipped nearly everything, as if a fixture of every test started a process."""
        if sum(self.counts.values()) > 1000 and self.counts["passed"] < 3 * self.counts["skipped"]:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            print(f"\n--quick skipped too much: {self.counts}. See tests/helpers/quick.py.")

    def _patch(self) -> None:
        register = torch.nn.Module.register_parameter

        def register_and_count(module: torch.nn.Module, name: str, param: torch.nn.Parameter | None) -> None:
            if param is not None and not param.is_meta and not is_lazy(param):
                self.parameters += param.numel()
                if self.parameters > MAX_PARAMETERS:
                    skip(f"builds or loads more than {MAX_PARAMETERS:,} parameters")
            register(module, name, param)

        torch.nn.Module.register_parameter = register_and_count
        torch.onnx.export = lambda *_, **__: skip("exports a model")
        for process, method in ((subprocess.Popen, "__init__"), (BaseProcess, "start")):
            setattr(process, method, lambda *_, **__: skip("starts a process"))


def skip(reason: str) -> NoReturn:
    pytest.skip(reason)
