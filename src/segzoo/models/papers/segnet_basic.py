"""SegNet-Basic: four 7x7 convolutions down, four up by the pooling switches, no ReLU on the way up.

Badrinarayanan, Kendall, Cipolla: SegNet, PAMI 2017, arXiv 1511.00561, section 3.1 and table 1; layers, names and input
as in the authors' segnet_basic_train.prototxt (SegNet-Tutorial).

The paper says that convolutions have no biases; the prototxt gives them one, and so does this. Where the paper speaks
of local contrast normalisation of the input, the prototxt has local response normalisation. Table 1's 1.425 M
parameters are not those of the prototxt, which come to 1,416,587 with 11 classes.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.models.base import ModelConfig
from segzoo.models.layers.conv import he_init, score_layer
from segzoo.models.layers.unpooling import Unpool
from segzoo.models.papers.base import Paper

DEPTHS = (1, 2, 3, 4)


class Basic(Paper):
    """Abstract: image of 0-255, BGR, no mean subtracted -> logits of its size; pools round up, so any size fits.

    Args:
        last: what the layer that gives the scores is called.
        dropout: the depths, 1 to 4, with dropout after their pool and after their decoder's normalisation.
    """

    classes = 11
    channel_order = "BGR"

    def __init__(self, config: ModelConfig, last: str, dropout: tuple[int, ...] = ()) -> None:
        super().__init__(config)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.unpool = Unpool()
        for name in [*(f"conv{n}" for n in DEPTHS), *(f"conv_decode{n}" for n in reversed(DEPTHS))]:
            convolution = nn.Conv2d(config.in_channels if name == "conv1" else 64, 64, 7, padding=3)
            he_init(convolution)
            self.add_module(name, convolution)
            self.add_module(f"{name}_bn", nn.BatchNorm2d(64))
        for n in dropout:
            self.add_module(f"encdrop{n}", nn.Dropout(0.5))
            self.add_module(f"decdrop{n}", nn.Dropout(0.5))
        self.last = last
        self.add_module(last, score_layer(64, config.num_classes))

    def network(self, image: Tensor) -> Tensor:
        x, before_pools = self.norm(image), []
        for n in DEPTHS:
            before_pools.append(self._normalised(f"conv{n}", x).relu())
            x = self._drop(f"encdrop{n}", F.max_pool2d(before_pools[-1], 2, ceil_mode=True))
        for n in reversed(DEPTHS):
            x = self._drop(f"decdrop{n}", self._normalised(f"conv_decode{n}", self.unpool(x, before_pools[n - 1])))
        logits: Tensor = self.get_submodule(self.last)(x)
        return logits

    def _normalised(self, name: str, x: Tensor) -> Tensor:
        """7x7 with a bias, normalised."""
        y: Tensor = self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))
        return y

    def _drop(self, name: str, x: Tensor) -> Tensor:
        dropped: Tensor = self.get_submodule(name)(x) if hasattr(self, name) else x
        return dropped


class SegNetBasic(Basic):
    """SegNet-Basic, without dropout."""

    paper = "Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, last="conv_classifier")
