"""Bayesian SegNet-Basic: SegNet-Basic with dropout in its two deepest encoders and decoders, on at test time too.

Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680; layers, names and input as in the authors'
bayesian_segnet_basic_train.prototxt (SegNet-Tutorial): encdrop3 and 4 after the pools, decdrop4 and 3 after the
normalisation of the decoders. Only the last layer has another name than SegNet-Basic's.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.layers.conv import he_init, score_layer
from segzoo.layers.unpooling import Unpool
from segzoo.model import ModelConfig
from segzoo.papers.sampling import Sampling


class BayesianSegNetBasic(Sampling):
    """Image of 0-255, BGR, no mean subtracted -> logits of its size; `predict(image, samples=40)` samples them."""

    paper = "Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680"
    classes = 11
    channel_order = "BGR"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.unpool = Unpool()
        for name in [*(f"conv{n}" for n in (1, 2, 3, 4)), *(f"conv_decode{n}" for n in (4, 3, 2, 1))]:
            convolution = nn.Conv2d(config.in_channels if name == "conv1" else 64, 64, 7, padding=3)
            he_init(convolution)
            self.add_module(name, convolution)
            self.add_module(f"{name}_bn", nn.BatchNorm2d(64))
        self.dropout = nn.Dropout(0.5)
        self.dense_softmax_inner_prod = score_layer(64, config.num_classes)

    def network(self, image: Tensor) -> Tensor:
        x, before_pools = self.norm(image), []
        for n in (1, 2, 3, 4):
            before_pools.append(F.relu(self._normalised(f"conv{n}", x), inplace=True))
            x = F.max_pool2d(before_pools[-1], 2, ceil_mode=True)
            x = self.dropout(x) if n >= 3 else x
        for n in (4, 3, 2, 1):
            x = self._normalised(f"conv_decode{n}", self.unpool(x, before_pools[n - 1]))
            x = self.dropout(x) if n >= 3 else x
        logits: Tensor = self.dense_softmax_inner_prod(x)
        return logits

    def _normalised(self, name: str, x: Tensor) -> Tensor:
        normalised: Tensor = self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))
        return normalised
