"""Papers' networks with few channels."""

import pytest
from caffe_networks import HIDDEN, NARROW

from segzoo.models.papers.deeplab_largefov import DeepLabLargeFOV
from segzoo.models.papers.vgg16 import VGG16, VGG16Classifier


@pytest.fixture
def narrow_vgg16(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG16's papers with as few channels as the helpers' narrow Caffe networks: they run in a moment."""
    monkeypatch.setattr(VGG16, "widths", NARROW)
    for kind in (VGG16Classifier, DeepLabLargeFOV):
        monkeypatch.setattr(kind, "hidden", HIDDEN)
