"""SegNet-Basic: four 7x7 convolutions down, four up by the pooling switches, no ReLU on the way up.

Badrinarayanan, Kendall, Cipolla: SegNet, PAMI 2017, arXiv 1511.00561, section 3.1 and table 1; layers, names and input
as in the authors' segnet_basic_train.prototxt (SegNet-Tutorial).

The paper says that convolutions have no biases; the prototxt gives them one, and so does this. Where the paper speaks
of local contrast normalisation of the input, the prototxt has local response normalisation. Table 1's 1.425 M
parameters are not those of the prototxt, which come to 1,416,587 with 11 classes.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.layers.conv import he_init, score_layer
from segzoo.layers.unpooling import Unpool
from segzoo.model import ModelConfig
from segzoo.papers.base import Paper

_DOWN = ("conv1", "conv2", "conv3", "conv4")
_UP = ("conv_decode4", "conv_decode3", "conv_decode2", "conv_decode1")


class SegNetBasic(Paper):
    """Image of 0-255, BGR, no mean subtracted -> logits of its size; pools round up, so any size goes through."""

    paper = "Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561"
    classes = 11
    channel_order = "BGR"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        for name, channels in zip(_DOWN + _UP, (config.in_channels, *[64] * 7), strict=True):
            convolution = nn.Conv2d(channels, 64, 7, padding=3)
            he_init(convolution)
            self.add_module(name, convolution)
            self.add_module(f"{name}_bn", nn.BatchNorm2d(64))
        self.unpool = Unpool()
        self.conv_classifier = score_layer(64, config.num_classes)

    def network(self, image: Tensor) -> Tensor:
        x = self.norm(image)
        before_pools = []
        for name in _DOWN:
            before_pools.append(self._convolve(name, x).relu())
            x = F.max_pool2d(before_pools[-1], 2, ceil_mode=True)
        for name, like in zip(_UP, reversed(before_pools), strict=True):
            x = self._convolve(name, self.unpool(x, like))
        logits: Tensor = self.conv_classifier(x)
        return logits

    def _convolve(self, name: str, x: Tensor) -> Tensor:
        """7x7 with a bias, normalised."""
        y: Tensor = self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))
        return y
