"""FCN-32s, -16s, -8s and -8s at once: VGG16 made convolutional, its scores brought up by fixed bilinear kernels.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, arXiv 1411.4038, and PAMI
2017, arXiv 1605.06211; layers, names, crops and mean as in the authors' voc-fcn32s, voc-fcn16s, voc-fcn8s and
voc-fcn8s-atonce (shelhamer/fcn.berkeleyvision.org).

The padding by 100 makes the maps of small images large enough for fc6, and the crops take it out again; with pools that
round up, every image of 1 x 1 and more comes out at its own size. The kernels that bring scores up are dense, from each
class to each, with bilinear weights from a class to itself and zeros elsewhere, and are not trained. In the CVPR paper
the inner ones are trained.

The authors start the scores at zero and find that random values do no better; here they start random and small, so that
an untrained network gives values to be compared.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.base import ModelConfig
from segzoo.models.layers.conv import score_layer
from segzoo.models.layers.upsampling import bilinear_kernel
from segzoo.models.papers.vgg16 import VGG16Classifier, convolution


class _FCN(VGG16Classifier):
    """What the four share: VGG16 padded by 100, fc6, fc7, and the scores of fc7."""

    paper = "Long, Shelhamer, Darrell: Fully Convolutional Networks, arXiv 1411.4038"
    classes = 21
    pixel_mean = (122.67892, 116.66877, 104.00699)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, first_padding=100)
        self.fc6 = convolution(self.widths[4], self.hidden, 7)
        self.score_fr = score_layer(self.hidden, config.num_classes)

    def down(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """pool3 (1/8), pool4 (1/16), and the scores at 1/32."""
        pools = []
        x = image
        for stage in (1, 2, 3, 4, 5):
            x = F.max_pool2d(self.stage(stage, x), 2, ceil_mode=True)
            pools.append(x)
        x = F.dropout(self.fc6(x).relu(), 0.5, self.training)
        x = F.dropout(self.fc7(x).relu(), 0.5, self.training)
        return pools[2], pools[3], self.score_fr(x)


class FCN32s(_FCN):
    """Image of 0-255, BGR, mean subtracted -> logits of its size: the scores at 1/32, 32 times up."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.upscore = _upscore(config.num_classes, 64)

    def network(self, image: Tensor) -> Tensor:
        _, _, score = self.down(image)
        return _crop(self.upscore(score), image, 19)


class FCN16s(_FCN):
    """Image of 0-255, BGR, mean subtracted -> logits of its size: twice up, pool4's scores added, 16 times up."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.score_pool4 = score_layer(self.widths[3], config.num_classes)
        self.upscore2 = _upscore(config.num_classes, 4)
        self.upscore16 = _upscore(config.num_classes, 32)

    def network(self, image: Tensor) -> Tensor:
        _, pool4, score = self.down(image)
        x = self.upscore2(score)
        x = x + _crop(self.score_pool4(pool4), x, 5)
        return _crop(self.upscore16(x), image, 27)


class FCN8s(_FCN):
    """Image of 0-255, BGR, mean subtracted -> logits of its size: pool4's and pool3's scores added on the way up."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.score_pool4 = score_layer(self.widths[3], config.num_classes)
        self.score_pool3 = score_layer(self.widths[2], config.num_classes)
        self.upscore2 = _upscore(config.num_classes, 4)
        self.upscore_pool4 = _upscore(config.num_classes, 4)
        self.upscore8 = _upscore(config.num_classes, 16)

    def network(self, image: Tensor) -> Tensor:
        pool3, pool4, score = self.down(image)
        x = self.upscore2(score)
        x = x + _crop(self.score_pool4(pool4), x, 5)
        x = self.upscore_pool4(x)
        x = x + _crop(self.score_pool3(pool3), x, 9)
        return _crop(self.upscore8(x), image, 31)


class FCN8sAtOnce(FCN8s):
    """FCN-8s that is trained in one stage, which takes pool4 times 0.01 and pool3 times 0.0001 before their scores."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.scale_pool4 = _Scale(self.widths[3], 0.01)
        self.scale_pool3 = _Scale(self.widths[2], 0.0001)

    def down(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pool3, pool4, score = super().down(image)
        return self.scale_pool3(pool3), self.scale_pool4(pool4), score


class _Scale(nn.Module):
    """Caffe's Scale layer, one factor a channel; the authors fix it, so it is no parameter."""

    weight: Tensor

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((channels,), factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]


def _upscore(num_classes: int, kernel: int) -> nn.ConvTranspose2d:
    """Fixed: bilinear interpolation, half its kernel times up."""
    layer = nn.ConvTranspose2d(num_classes, num_classes, kernel, stride=kernel // 2, bias=False)
    layer.requires_grad_(False)
    layer.weight.zero_()
    layer.weight[range(num_classes), range(num_classes)] = bilinear_kernel(kernel)
    return layer


def _crop(x: Tensor, like: Tensor, offset: int) -> Tensor:
    """Caffe's Crop layer: the part of `x` that has the size of `like`, from `offset` on."""
    height, width = like.shape[-2:]
    return x[..., offset : offset + height, offset : offset + width]
