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


class SegNetBasic(Paper):
    """Image of 0-255, BGR, no mean subtracted -> logits of its size; pools round up, so any size goes through."""

    paper = "Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561"
    classes = 11
    channel_order = "BGR"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        inputs = (config.in_channels, 64, 64, 64)
        self.encoder = nn.ModuleList(nn.Sequential(_convolution(n), nn.ReLU(inplace=True)) for n in inputs)
        self.unpool = Unpool()
        self.decoder = nn.ModuleList(_convolution(64) for _ in inputs)
        self.conv_classifier = score_layer(64, config.num_classes)

    def network(self, image: Tensor) -> Tensor:
        x = self.norm(image)
        before_pools = []
        for convolution in self.encoder:
            before_pools.append(convolution(x))
            x = F.max_pool2d(before_pools[-1], 2, ceil_mode=True)
        for convolution, like in zip(self.decoder, reversed(before_pools), strict=True):
            x = convolution(self.unpool(x, like))
        logits: Tensor = self.conv_classifier(x)
        return logits


def _convolution(channels: int) -> nn.Sequential:
    """7x7 with a bias, normalised."""
    convolution = nn.Conv2d(channels, 64, 7, padding=3)
    he_init(convolution)
    return nn.Sequential(convolution, nn.BatchNorm2d(64))
