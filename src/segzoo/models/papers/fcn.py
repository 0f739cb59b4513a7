"""FCN-32s, -16s, -8s and -8s at-once: convolutionalized VGG16, its logits upsampled by fixed bilinear kernels.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015, arXiv 1411.4038, and PAMI
2017, arXiv 1605.06211. Layers, names, crops and mean follow the authors' voc-fcn32s, voc-fcn16s, voc-fcn8s and
voc-fcn8s-atonce (shelhamer/fcn.berkeleyvision.org).

Padding by 100 makes the maps of small images large enough for fc6, and the crops remove it again. Since the pools round
up, logits of every image from 1 x 1 come out at the image's size. The upsampling kernels are dense, from every class to
every class: bilinear weights from a class to itself, zeros elsewhere. They are not trained. In the CVPR paper the
inner ones are trained.

The authors initialize the scoring layers to zero and report that random values do no better. Here they start with small
random values, so that the outputs of untrained networks can be compared.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers.conv import head_conv
from segzoo.models.layers.upsampling import bilinear_kernel
from segzoo.models.papers.vgg16 import VGG16Classifier, convolution
from segzoo.spec import ModelSpec


class _FCN(VGG16Classifier):
    """Common to all four: VGG16 padded by 100, fc6, fc7, and the logits of fc7."""

    paper = "Long, Shelhamer, Darrell: Fully Convolutional Networks, arXiv 1411.4038"
    default_num_classes = 21
    pixel_mean = (122.67892, 116.66877, 104.00699)

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, first_padding=100)
        self.fc6 = convolution(self.stage_channels[4], self.fc_channels, 7)
        self.score_fr = head_conv(self.fc_channels, spec.num_classes)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns pool3 (1/8), pool4 (1/16), and the logits at 1/32."""
        pools = []
        x = image
        for stage in (1, 2, 3, 4, 5):
            x = F.max_pool2d(self.stage(stage, x), 2, ceil_mode=True)
            pools.append(x)
        x = F.dropout(self.fc6(x).relu(), 0.5, self.training)
        x = F.dropout(self.fc7(x).relu(), 0.5, self.training)
        return pools[2], pools[3], self.score_fr(x)


class FCN32s(_FCN):
    """Takes BGR pixels of 0-255, mean subtracted; logits at 1/32, upsampled 32x to image size."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.upscore = _upscore(spec.num_classes, 64)

    def network(self, image: Tensor) -> Tensor:
        _, _, score = self.encode(image)
        return _crop(self.upscore(score), image, 19)


class FCN16s(_FCN):
    """Takes BGR pixels of 0-255, mean subtracted; logits upsampled 2x, pool4's added, upsampled 16x to image size."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.score_pool4 = head_conv(self.stage_channels[3], spec.num_classes)
        self.upscore2 = _upscore(spec.num_classes, 4)
        self.upscore16 = _upscore(spec.num_classes, 32)

    def network(self, image: Tensor) -> Tensor:
        _, pool4, score = self.encode(image)
        x = self.upscore2(score)
        x = x + _crop(self.score_pool4(pool4), x, 5)
        return _crop(self.upscore16(x), image, 27)


class FCN8s(_FCN):
    """Takes BGR pixels of 0-255, mean subtracted; logits at image size, those of pool4 and pool3 added on the way."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.score_pool4 = head_conv(self.stage_channels[3], spec.num_classes)
        self.score_pool3 = head_conv(self.stage_channels[2], spec.num_classes)
        self.upscore2 = _upscore(spec.num_classes, 4)
        self.upscore_pool4 = _upscore(spec.num_classes, 4)
        self.upscore8 = _upscore(spec.num_classes, 16)

    def network(self, image: Tensor) -> Tensor:
        pool3, pool4, score = self.encode(image)
        x = self.upscore2(score)
        x = x + _crop(self.score_pool4(pool4), x, 5)
        x = self.upscore_pool4(x)
        x = x + _crop(self.score_pool3(pool3), x, 9)
        return _crop(self.upscore8(x), image, 31)


class FCN8sAtOnce(FCN8s):
    """FCN-8s trained in one stage: multiplies pool4 by 0.01 and pool3 by 0.0001 before computing their logits."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.scale_pool4 = _Scale(self.stage_channels[3], 0.01)
        self.scale_pool3 = _Scale(self.stage_channels[2], 0.0001)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pool3, pool4, score = super().encode(image)
        return self.scale_pool3(pool3), self.scale_pool4(pool4), score


class _Scale(nn.Module):
    """Caffe's Scale layer: one factor per channel. A buffer, because the authors do not train it."""

    weight: Tensor

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((channels,), factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]


def _upscore(num_classes: int, kernel: int) -> nn.ConvTranspose2d:
    """Bilinear upsampling by half the kernel size, with fixed weights."""
    layer = nn.ConvTranspose2d(num_classes, num_classes, kernel, stride=kernel // 2, bias=False)
    layer.requires_grad_(False)
    layer.weight.zero_()
    layer.weight[range(num_classes), range(num_classes)] = bilinear_kernel(kernel)
    return layer


def _crop(x: Tensor, ref: Tensor, offset: int) -> Tensor:
    """Caffe's Crop layer: a window of `x` with the height and width of `ref` that starts at `offset`."""
    height, width = ref.shape[-2:]
    return x[..., offset : offset + height, offset : offset + width]
