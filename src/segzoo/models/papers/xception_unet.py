"""The "U-Net Xception-style" of Keras' example: separable convolutions down, transposed ones up, local residuals.

Chollet: Image segmentation with a U-Net-like architecture, Keras code examples,
oxford_pets_image_segmentation.py; the blocks are those of Xception, arXiv 1610.02357. A U-Net by name only: no map is
carried across from the way down to the way up.

Keras pads "same" at stride 2 on the right and at the bottom only, where sizes are even; its normalisation has epsilon
1e-3. Images of the example are 160 x 160 RGB, 0-255, resized; the three classes are the trimap's, less one. Other sizes
are padded to multiples of 16 here.
"""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.models.base import ModelConfig
from segzoo.models.papers.base import Paper


class XceptionUNet(Paper):
    """Image of 0-255, RGB, nothing subtracted -> logits of its size."""

    paper = "Chollet: Image segmentation with a U-Net-like architecture, Keras code examples; arXiv 1610.02357"
    classes = 3
    multiple = 16

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.entry = nn.Sequential(nn.Conv2d(config.in_channels, 32, 3, stride=2), _norm(32), nn.ReLU())
        self.downs = nn.ModuleList(_Down(*pair) for pair in ((32, 64), (64, 128), (128, 256)))
        self.ups = nn.ModuleList(_Up(*pair) for pair in ((256, 256), (256, 128), (128, 64), (64, 32)))
        self.score = nn.Conv2d(32, config.num_classes, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):  # as Keras starts them
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
    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            _separable(before, channels),
            _norm(channels),
            nn.ReLU(),
            _separable(channels, channels),
            _norm(channels),
        )
        self.residual = nn.Conv2d(before, channels, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        # The pool never takes a padded value: these maps have both signs.
        pooled = F.max_pool2d(F.pad(self.body(x), (0, 1, 0, 1), value=-math.inf), 3, stride=2)
        result: Tensor = pooled + self.residual(x)
        return result


class _Up(nn.Module):
    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose2d(before, channels, 3, padding=1),
            _norm(channels),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels, 3, padding=1),
            _norm(channels),
        )
        self.residual = nn.Conv2d(before, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # The example repeats values before its 1x1 convolution and before it adds. After both it is the same numbers.
        return F.interpolate(self.body(x) + self.residual(x), scale_factor=2, mode="nearest")


def _separable(before: int, channels: int) -> nn.Sequential:
    """Depthwise without a bias, then pointwise with one."""
    depthwise = nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(before, channels, 1))


def _norm(channels: int) -> nn.BatchNorm2d:
    """As Keras has it: its momentum of 0.99 is torch's 0.01."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
