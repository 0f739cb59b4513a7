"""Paper networks with few channels."""

import pytest
from caffe_networks import HIDDEN, NARROW

from segzoo.models.papers.deeplab_largefov import DeepLabLargeFOV
from segzoo.models.papers.vgg16 import VGG16, VGG16Classifier


@pytest.fixture
def narrow_vgg16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives paper networks on VGG16 as few channels as the helpers' narrow Caffe networks, so that they run fast."""
    monkeypatch.setattr(VGG16, "stage_channels", NARROW)
    for network in (VGG16Classifier, DeepLabLargeFOV):
        monkeypatch.setattr(network, "fc_channels", HIDDEN)
