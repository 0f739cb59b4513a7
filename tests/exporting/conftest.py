"""Stubs of NVIDIA's libraries."""

from pathlib import Path

import fake_cuda
import pytest


@pytest.fixture(scope="session")
def optional_cuda_stubs(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The folder that `fake_cuda.placement` needs, or None if it cannot be built on this machine."""
    if fake_cuda.why_not():
        return None
    folder = tmp_path_factory.mktemp("cuda_stubs")
    fake_cuda.build(folder)
    return folder


@pytest.fixture
def cuda_stubs(optional_cuda_stubs: Path | None) -> Path:
    """The same folder; skips the test if there is none."""
    if optional_cuda_stubs is None:
        pytest.skip(str(fake_cuda.why_not()))
    return optional_cuda_stubs
