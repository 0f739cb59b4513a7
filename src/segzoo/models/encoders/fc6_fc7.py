"""The hidden layers of a pretrained VGG classifier as convolutions, for FCN, DeconvNet and DeepLab."""

from pathlib import Path

import timm
from torch import Tensor

from segzoo.models.encoders.pretrained import cannot_fetch, is_path, timm_downloads
from segzoo.models.features import FC6FC7
from segzoo.weights.state_dict import read

_NAMES = {
    "timm": ("pre_logits.fc1", "pre_logits.fc2"),
    "torchvision": ("classifier.0", "classifier.3"),
}


def fc6_fc7_weights(name: str, weights: str, channels: int) -> FC6FC7 | None:
    """VGG's fc6 and fc7, from the same source as the encoder's weights.

    Args:
        name: timm's name of the network, with the tag of the weights if there is one.
        weights: "imagenet", a tag, or the path of a file, as for `create_encoder`.
        channels: channels of fc6's input, to which its weights are reshaped.

    Returns:
        None if the file has no classifier.

    Raises:
        DownloadError, CheckpointError: the weights cannot be loaded.
    """
    if is_path(weights):
        source = read(Path(weights))
    else:
        try:
            with timm_downloads(name):
                source = timm.create_model(name, pretrained=True).state_dict()
        except (OSError, RuntimeError) as error:
            raise cannot_fetch(name, error) from error
    for layers in _NAMES.values():
        if all(f"{layer}.{part}" in source for layer in layers for part in ("weight", "bias")):
            fc6, fc7 = ((source[f"{layer}.weight"], source[f"{layer}.bias"]) for layer in layers)
            return (_convolution(fc6[0], channels), fc6[1]), (_convolution(fc7[0], len(fc6[1])), fc7[1])
    return None


def _convolution(weight: Tensor, channels: int) -> Tensor:
    """torchvision's (out, channels x kernel x kernel) -> (out, channels, kernel, kernel), which is timm's shape."""
    kernel = round((weight[0].numel() / channels) ** 0.5)
    return weight.reshape(len(weight), channels, kernel, kernel)
