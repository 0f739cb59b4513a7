"""DeconvNet: VGG16 down to a single position, and its mirror up again by unpooling and "deconvolution".

Noh, Hong, Han: Learning Deconvolution Network for Semantic Segmentation, ICCV 2015, arXiv 1505.04366, figure 2; layers,
names and mean as in the authors' stage_2_train.prototxt and DeconvNet_inference_deploy.prototxt
(HyeonwooNoh/DeconvNet).

The paper knows 224 x 224 alone, cut out around proposed objects, where fc6 sees the whole. Multiples of 32 from there
on fit as well; this takes whole images, with zeros (the mean colour) on the right and below.

The results of the paper are those of up to 50 proposals an image, an FCN-8s beside it, and a CRF: not of this alone.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.base import ModelConfig
from segzoo.models.layers.conv import he_init, score_layer
from segzoo.models.layers.unpooling import Unpool
from segzoo.models.papers.vgg16 import VGG16Classifier, convolution, numbers


class DeconvNet(VGG16Classifier):
    """Image of 0-255, BGR, mean subtracted, 224 x 224 or larger by 32s -> logits of its size."""

    paper = "Noh, Hong, Han: Learning Deconvolution Network, arXiv 1505.04366"
    classes = 21
    pixel_mean = (122.675, 116.669, 104.008)
    multiple = 32
    smallest = 224

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        for number in numbers():
            self.add_module(f"bn{number}", nn.BatchNorm2d(self.widths[int(number[0]) - 1]))
        self.fc6 = convolution(self.widths[4], self.hidden, 7)
        self.bnfc6 = nn.BatchNorm2d(self.hidden)
        self.bnfc7 = nn.BatchNorm2d(self.hidden)
        self.fc6_deconv = _deconvolution(self.hidden, self.widths[4], 7)
        self.fc6_deconv_bn = nn.BatchNorm2d(self.widths[4])
        self.unpool = Unpool()
        width = self.widths[4]
        for stage in (5, 4, 3, 2, 1):
            # The last of a stage gives what the switches of the next one have; its numbers go up, unlike SegNet's.
            for number in numbers(stage):
                last = number == numbers(stage)[-1]
                narrower = self.widths[max(stage - 2, 0)] if last else self.widths[stage - 1]
                self.add_module(f"deconv{number}", _deconvolution(width, narrower, 3, padding=1))
                self.add_module(f"debn{number}", nn.BatchNorm2d(narrower))
                width = narrower
        self.seg_score = score_layer(width, config.num_classes)

    def convolve(self, number: str, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(x))
        return y.relu()

    def network(self, image: Tensor) -> Tensor:
        x = image
        before_pools = []
        for stage in (1, 2, 3, 4, 5):
            before_pools.append(self.stage(stage, x))
            x = F.max_pool2d(before_pools[-1], 2)
        x = self.bnfc6(self.fc6(x)).relu()
        x = self.bnfc7(self.fc7(x)).relu()
        x = self.fc6_deconv_bn(self.fc6_deconv(x)).relu()
        for stage, like in zip((5, 4, 3, 2, 1), reversed(before_pools), strict=True):
            x = self.unpool(x, like)
            for number in numbers(stage):
                x = self.get_submodule(f"debn{number}")(self.get_submodule(f"deconv{number}")(x)).relu()
        logits: Tensor = self.seg_score(x)
        return logits


def _deconvolution(channels_in: int, channels_out: int, kernel: int, padding: int = 0) -> nn.ConvTranspose2d:
    """Transposed, stride 1, with a bias."""
    layer = nn.ConvTranspose2d(channels_in, channels_out, kernel, padding=padding)
    he_init(layer)
    return layer
