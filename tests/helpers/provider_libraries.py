"""The libraries that onnxruntime's GPU providers need, read from the files of the installed package."""

import shutil
import subprocess
from pathlib import Path

import onnxruntime
import pytest

needs_readelf = pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf reads what the provider needs")


def needed_libraries(provider: str) -> set[str]:
    """Names of the shared libraries that the provider "cuda" or "tensorrt" is linked with."""
    path = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{provider}.so"
    lines = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line}
