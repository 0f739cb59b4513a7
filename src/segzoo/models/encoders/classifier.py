"""The hidden layers of a pretrained classifier, as the convolutions that FCN, DeconvNet and DeepLab make of them."""

from pathlib import Path

import timm
from torch import Tensor

from segzoo.models.encoders.weights import cannot_fetch, is_path, no_network_if_offline
from segzoo.models.features import HiddenWeights
from segzoo.weights.state_dict import read

_NAMES = {
    "timm": ("pre_logits.fc1", "pre_logits.fc2"),
    "torchvision": ("classifier.0", "classifier.3"),
}


def hidden_weights(name: str, weights: str, channels: int) -> HiddenWeights | None:
    """fc6 and fc7 of VGG, from where the encoder's own weights come from.

    Args:
        name: timm's name of the network, with the tag of the weights where there is one.
        weights: "imagenet", a tag, or the path of a file, as for `create_encoder`.
        channels: of the map that fc6 looks at, which its weights are reshaped to.

    Returns:
        None where the file has the convolutions alone.

    Raises:
        DownloadError, CheckpointError: the weights cannot be had.
    """
    if is_path(weights):
        source = read(Path(weights))
    else:
        try:
            with no_network_if_offline():
                source = timm.create_model(name, pretrained=True).state_dict()
        except (OSError, RuntimeError) as error:
            raise cannot_fetch(name, error) from error
    for layers in _NAMES.values():
        if all(f"{layer}.{part}" in source for layer in layers for part in ("weight", "bias")):
            fc6, fc7 = ((source[f"{layer}.weight"], source[f"{layer}.bias"]) for layer in layers)
            return (_convolution(fc6[0], channels), fc6[1]), (_convolution(fc7[0], len(fc6[1])), fc7[1])
    return None


def _convolution(weight: Tensor, channels: int) -> Tensor:
    """torchvision's (out, channels x kernel x kernel) -> (out, channels, kernel, kernel); timm's are so already."""
    kernel = round((weight[0].numel() / channels) ** 0.5)
    return weight.reshape(len(weight), channels, kernel, kernel)
