"""SegNet-Basic: four 7x7 convolutions down, four up with pooling indices, and no ReLU in the decoder.

Badrinarayanan, Kendall, Cipolla: SegNet, PAMI 2017, arXiv 1511.00561, section 3.1 and table 1. Layers, names and input
follow the authors' segnet_basic_train.prototxt (SegNet-Tutorial).

The paper says that convolutions have no biases; the prototxt gives them biases, and so does this network. For the local
contrast normalization of the input that the paper describes, the prototxt has local response normalization. Table 1's
1.425 M parameters do not match the prototxt, which has 1,416,587 with 11 classes.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.models.layers.conv import he_init, head_conv
from segzoo.models.layers.unpooling import Unpool
from segzoo.models.papers.base import Paper
from segzoo.spec import ModelSpec

DEPTHS = (1, 2, 3, 4)


class Basic(Paper):
    """Abstract: takes BGR pixels of 0-255, no mean subtracted; logits at image size. Pools round up, so any size fits.

    Args:
        head: name of the layer that computes the logits.
        dropout: depths, 1 to 4, with dropout after their pool and after the batch normalization of their decoder.
    """

    default_num_classes = 11
    channel_order = "BGR"

    def __init__(self, spec: ModelSpec, head: str, dropout: tuple[int, ...] = ()) -> None:
        super().__init__(spec)
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.unpool = Unpool()
        for name in [*(f"conv{n}" for n in DEPTHS), *(f"conv_decode{n}" for n in reversed(DEPTHS))]:
            convolution = nn.Conv2d(spec.in_channels if name == "conv1" else 64, 64, 7, padding=3)
            he_init(convolution)
            self.add_module(name, convolution)
            self.add_module(f"{name}_bn", nn.BatchNorm2d(64))
        for n in dropout:
            self.add_module(f"encdrop{n}", nn.Dropout(0.5))
            self.add_module(f"decdrop{n}", nn.Dropout(0.5))
        self.head_name = head
        self.add_module(head, head_conv(64, spec.num_classes))

    def network(self, image: Tensor) -> Tensor:
        x, pre_pools = self.norm(image), []
        for n in DEPTHS:
            pre_pools.append(self._conv_bn(f"conv{n}", x).relu())
            x = self._drop(f"encdrop{n}", F.max_pool2d(pre_pools[-1], 2, ceil_mode=True))
        for n in reversed(DEPTHS):
            x = self._drop(f"decdrop{n}", self._conv_bn(f"conv_decode{n}", self.unpool(x, pre_pools[n - 1])))
        logits: Tensor = self.get_submodule(self.head_name)(x)
        return logits

    def _conv_bn(self, name: str, x: Tensor) -> Tensor:
        """7x7 convolution with a bias, then batch normalization."""
        y: Tensor = self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))
        return y

    def _drop(self, name: str, x: Tensor) -> Tensor:
        dropped: Tensor = self.get_submodule(name)(x) if hasattr(self, name) else x
        return dropped


class SegNetBasic(Basic):
    """SegNet-Basic without dropout: takes BGR pixels of 0-255, no mean subtracted; logits at image size."""

    paper = "Badrinarayanan, Kendall, Cipolla: SegNet, arXiv 1511.00561"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, head="conv_classifier")
