"""What every test gets: fixed seeds, few threads, no network."""

import os

# Before anything imports huggingface_hub: a test that asks for weights must fail at once, not after minutes of retries.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

CAMVID = Path(os.environ.get("SEGZOO_CAMVID") or Path(__file__).parents[2] / "shared" / "camvid")


@pytest.fixture(autouse=True)
def _seeds_and_threads() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """A real photograph, uint8 (427, 640, 3)."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg")


@pytest.fixture(scope="session")
def camvid() -> Path:
    """The folder of CamVid's train and val images, where it is at hand."""
    if not CAMVID.is_dir():
        pytest.skip("CamVid is not at hand: name its folder in SEGZOO_CAMVID, or put it at ../shared/camvid")
    return CAMVID
