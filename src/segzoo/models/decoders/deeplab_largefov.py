"""DeepLab-LargeFOV: dilated convolutions keep 1/8 of the size, and fc6 looks far with a dilation of 12.

Chen, Papandreou, Kokkinos, Murphy, Yuille: Semantic Image Segmentation with Deep Convolutional Nets and Fully
Connected CRFs, ICLR 2015, arXiv 1412.7062, section 2 and table 1 (c); layers as in the authors' prototxt.

What differs from the paper: VGG's first four pools are 2x2 (the paper makes them 3x3), there is no average pool after
pool5, and no CRF. Other encoders end at their deepest map, without a pool5.
"""

import torch.nn.functional as F
from torch import Tensor

from segzoo.models.decoders.base import Decoder
from segzoo.models.features import Features, HiddenWeights
from segzoo.models.layers.conv import HiddenLayers, score_layer


class DeepLabLargeFOV(Decoder):
    """fc6 (3x3, dilation 12, 1024 channels), fc7 (1x1), scores.

    The dilation is the paper's at output stride 8, and half or a quarter of it at 16 or 32: the same field of view.
    No choice of the way up: nothing goes from level to level, and the model resizes the logits bilinearly, as in the
    paper.
    """

    paper = "Chen et al.: Semantic Image Segmentation with Deep Convolutional Nets and CRFs, arXiv 1412.7062"
    encoder = "vgg16"
    output_strides = (8, 16, 32)
    has_hidden = True

    def __init__(self, features: Features, num_classes: int) -> None:
        super().__init__(features, num_classes)
        self.hidden = HiddenLayers(features.channels[-1], 3, 1024, dilation=12 * 8 // features.strides[-1])
        self.score = score_layer(1024, num_classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.score(self.hidden(self._pool5(maps)))
        return logits

    def load_hidden(self, weights: HiddenWeights) -> bool:
        """Every fourth channel and every third row and column: 7x7 to 4096 becomes 3x3 to 1024.

        The authors subsampled too, and published only the result; this is the usual way since (Liu et al., SSD).
        """
        (fc6, bias6), (fc7, bias7) = weights
        return self.hidden.load(((fc6[::4, :, ::3, ::3], bias6[::4]), (fc7[::4, ::4], bias7[::4])))

    def _pool5(self, maps: list[Tensor]) -> Tensor:
        if self.features.before_pool and self.features.strides[-1] == self.features.strides[-2]:
            # The paper's pool5 is 3x3 at stride 1 on conv5_3; the encoder's own would be 2x2 with a gap between.
            return F.max_pool2d(maps[self.features.index(4)], 3, stride=1, padding=1)
        return maps[-1]
