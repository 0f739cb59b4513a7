"""DeconvNet: VGG16 down to a single position, and its mirror image back up by unpooling and "deconvolution".

Noh, Hong, Han: Learning Deconvolution Network for Semantic Segmentation, ICCV 2015, arXiv 1505.04366, figure 2. Layers,
names and mean follow the authors' stage_2_train.prototxt and DeconvNet_inference_deploy.prototxt
(HyeonwooNoh/DeconvNet).

The paper uses only 224 x 224 crops around object proposals, for which fc6 covers the entire map. Larger multiples of 32
also fit. This network takes whole images and pads them on the right and at the bottom with zeros (the mean color).

The paper's results combine up to 50 proposals per image, an ensemble with FCN-8s, and a CRF; this network alone does
not reproduce them.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.models.layers.conv import he_init, head_conv
from segzoo.models.layers.unpooling import Unpool
from segzoo.models.papers.vgg16 import VGG16Classifier, convolution, suffixes
from segzoo.spec import ModelSpec


class DeconvNet(VGG16Classifier):
    """Takes BGR pixels of 0-255, mean subtracted, padded to 224 or a larger multiple of 32; logits at image size."""

    paper = "Noh, Hong, Han: Learning Deconvolution Network, arXiv 1505.04366"
    default_num_classes = 21
    pixel_mean = (122.675, 116.669, 104.008)
    size_divisibility = 32
    min_size = 224

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        for suffix in suffixes():
            self.add_module(f"bn{suffix}", nn.BatchNorm2d(self.stage_channels[int(suffix[0]) - 1]))
        self.fc6 = convolution(self.stage_channels[4], self.fc_channels, 7)
        self.bnfc6 = nn.BatchNorm2d(self.fc_channels)
        self.bnfc7 = nn.BatchNorm2d(self.fc_channels)
        self.fc6_deconv = _deconvolution(self.fc_channels, self.stage_channels[4], 7)
        self.fc6_deconv_bn = nn.BatchNorm2d(self.stage_channels[4])
        self.unpool = Unpool()
        channels = self.stage_channels[4]
        for stage in (5, 4, 3, 2, 1):
            # The last layer of a stage has as many channels as the next stage's pooling indices. Unlike SegNet's, the
            # numbers ascend within a stage.
            for suffix in suffixes(stage):
                last = suffix == suffixes(stage)[-1]
                out_channels = self.stage_channels[max(stage - 2, 0)] if last else self.stage_channels[stage - 1]
                self.add_module(f"deconv{suffix}", _deconvolution(channels, out_channels, 3, padding=1))
                self.add_module(f"debn{suffix}", nn.BatchNorm2d(out_channels))
                channels = out_channels
        self.seg_score = head_conv(channels, spec.num_classes)

    def convolve(self, suffix: str, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(f"bn{suffix}")(self.get_submodule(f"conv{suffix}")(x))
        return y.relu()

    def network(self, image: Tensor) -> Tensor:
        x = image
        pre_pools = []
        for stage in (1, 2, 3, 4, 5):
            pre_pools.append(self.stage(stage, x))
            x = F.max_pool2d(pre_pools[-1], 2)
        x = self.bnfc6(self.fc6(x)).relu()
        x = self.bnfc7(self.fc7(x)).relu()
        x = self.fc6_deconv_bn(self.fc6_deconv(x)).relu()
        for stage, ref in zip((5, 4, 3, 2, 1), reversed(pre_pools), strict=True):
            x = self.unpool(x, ref)
            for suffix in suffixes(stage):
                x = self.get_submodule(f"debn{suffix}")(self.get_submodule(f"deconv{suffix}")(x)).relu()
        logits: Tensor = self.seg_score(x)
        return logits


def _deconvolution(in_channels: int, out_channels: int, kernel: int, padding: int = 0) -> nn.ConvTranspose2d:
    """A transposed convolution at stride 1, with a bias."""
    layer = nn.ConvTranspose2d(in_channels, out_channels, kernel, padding=padding)
    he_init(layer)
    return layer
