"""Small random data sets."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from small_data import random_data

from segzoo.data.dataset import SegmentationData


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., SegmentationData]:
    """`random_data` in a temporary folder."""
    return functools.partial(random_data, tmp_path)
