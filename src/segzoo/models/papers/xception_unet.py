"""The "U-Net Xception-style" of a Keras example: separable convolutions down, transposed ones up, local residuals.

Chollet: Image segmentation with a U-Net-like architecture, Keras code examples,
oxford_pets_image_segmentation.py; the blocks are those of Xception, arXiv 1610.02357. Despite its name, it has no skip
connections between encoder and decoder.

At stride 2 and even sizes, Keras' "same" padding adds pixels only on the right and at the bottom; its batch
normalization has epsilon 1e-3. The example resizes images to 160 x 160 RGB, 0-255; its three classes are those of the
trimap, numbered from 0. Here, other sizes are padded to multiples of 16.
"""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.models.papers.base import Paper
from segzoo.spec import ModelSpec


class XceptionUNet(Paper):
    """Takes RGB pixels of 0-255, no mean subtracted; logits at image size."""

    paper = "Chollet: Image segmentation with a U-Net-like architecture, Keras code examples; arXiv 1610.02357"
    default_num_classes = 3
    size_divisibility = 16

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.entry = nn.Sequential(nn.Conv2d(spec.in_channels, 32, 3, stride=2), _norm(32), nn.ReLU())
        self.downs = nn.ModuleList(_Down(*pair) for pair in ((32, 64), (64, 128), (128, 256)))
        self.ups = nn.ModuleList(_Up(*pair) for pair in ((256, 256), (256, 128), (128, 64), (64, 32)))
        self.score = nn.Conv2d(32, spec.num_classes, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # Keras' default initialization
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def network(self, image: Tensor) -> Tensor:
        x = self.entry(F.pad(image, (0, 1, 0, 1)))
        for block in (*self.downs, *self.ups):
            x = block(x)
        logits: Tensor = self.score(x)
        return logits


class _Down(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            _separable(in_channels, out_channels),
            _norm(out_channels),
            nn.ReLU(),
            _separable(out_channels, out_channels),
            _norm(out_channels),
        )
        self.residual = nn.Conv2d(in_channels, out_channels, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        # Maps have both signs; -inf keeps the pool from selecting a padded value.
        pooled = F.max_pool2d(F.pad(self.body(x), (0, 1, 0, 1), value=-math.inf), 3, stride=2)
        result: Tensor = pooled + self.residual(x)
        return result


class _Up(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(in_channels, out_channels, 3, padding=1),
            _norm(out_channels),
            nn.ReLU(),
            nn.ConvTranspose2d(out_channels, out_channels, 3, padding=1),
            _norm(out_channels),
        )
        self.residual = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # The example upsamples before its 1x1 convolution and the sum; upsampling afterwards gives the same values.
        return F.interpolate(self.body(x) + self.residual(x), scale_factor=2, mode="nearest")


def _separable(in_channels: int, out_channels: int) -> nn.Sequential:
    """A depthwise convolution without a bias, then a pointwise one with a bias."""
    depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(in_channels, out_channels, 1))


def _norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalization with Keras' defaults; its momentum of 0.99 is 0.01 in torch."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
