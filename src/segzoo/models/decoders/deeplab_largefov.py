"""DeepLab-LargeFOV: dilated convolutions keep 1/8 of the size; a dilation of 12 gives fc6 a large field of view.

Chen, Papandreou, Kokkinos, Murphy, Yuille: Semantic Image Segmentation with Deep Convolutional Nets and Fully
Connected CRFs, ICLR 2015, arXiv 1412.7062, section 2 and table 1 (c); layers as in the authors' prototxt.

Differences from the paper: VGG's first four pools are 2x2 (3x3 in the paper), there is no average pool after pool5, and
no CRF. Other encoders have no pool5: fc6 takes their deepest map.
"""

import torch.nn.functional as F
from torch import Tensor

from segzoo.models.decoders.base import Decoder
from segzoo.models.features import FC6FC7, Features
from segzoo.models.layers.conv import FCHead, head_conv


class DeepLabLargeFOV(Decoder):
    """fc6 (3x3, dilation 12, 1024 channels), fc7 (1x1), head.

    The dilation is the paper's at output stride 8, and half or a quarter of it at 16 or 32: the same field of view.
    There is no option `upsample`: the decoder uses a single map, and the model resizes the logits bilinearly, as in the
    paper.
    """

    paper = "Chen et al.: Semantic Image Segmentation with Deep Convolutional Nets and CRFs, arXiv 1412.7062"
    default_encoder = "vgg16"
    output_strides = (8, 16, 32)
    has_fc6_fc7 = True

    def __init__(self, features: Features, num_classes: int) -> None:
        super().__init__(features, num_classes)
        self.fc_head = FCHead(features.channels[-1], 3, 1024, dilation=12 * 8 // features.strides[-1])
        self.head = head_conv(1024, num_classes)

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.head(self.fc_head(self._pool5(maps)))
        return logits

    def load_fc6_fc7(self, weights: FC6FC7) -> bool:
        """Takes every fourth channel and every third row and column: 7x7 to 4096 becomes 3x3 to 1024.

        The authors subsampled too, but published only the result; this pattern is common since SSD (Liu et al.).
        """
        (fc6, bias6), (fc7, bias7) = weights
        return self.fc_head.load(((fc6[::4, :, ::3, ::3], bias6[::4]), (fc7[::4, ::4], bias7[::4])))

    def _pool5(self, maps: list[Tensor]) -> Tensor:
        if self.features.pre_pool and self.features.strides[-1] == self.features.strides[-2]:
            # The paper's pool5 is 3x3 at stride 1 on conv5_3; the encoder's own pool5 is a dilated 2x2.
            return F.max_pool2d(maps[self.features.index(4)], 3, stride=1, padding=1)
        return maps[-1]
