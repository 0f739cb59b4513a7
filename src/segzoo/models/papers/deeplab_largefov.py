"""DeepLab-LargeFOV, the first DeepLab: dilation keeps maps at 1/8 and widens the field of view of a small fc6.

Chen, Papandreou, Kokkinos, Murphy, Yuille: Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
CRFs, ICLR 2015, arXiv 1412.7062, section 2 and table 1 (c).

Known from secondary sources: layers, pools and names are those of the prototxt in two forks of the authors' release
(TheLegendAli/DeepLab-Context, DrSleep/tensorflow-deeplab-lfov); pool5a, a 3x3 average pool after pool5, is not in the
paper's text. The fully connected CRF that follows in the paper is not part of the network.

The authors compute the loss on logits at 1/8 and every eighth pixel of the ground truth; here the loss uses logits at
image size.
"""

import torch.nn.functional as F
from torch import Tensor

from segzoo.models.features import FC6FC7
from segzoo.models.layers.conv import head_conv
from segzoo.models.papers.vgg16 import VGG16Classifier, convolution
from segzoo.spec import ModelSpec


class DeepLabLargeFOV(VGG16Classifier):
    """Takes BGR pixels of 0-255, mean subtracted; logits at image size.

    The corners of image and logits coincide at 32k - 31 pixels, as in training (321) and testing (513). Other images
    are padded to such a size with zeros, the mean color, on the right and at the bottom.
    """

    paper = "Chen et al.: Semantic Image Segmentation with Deep Convolutional Nets and CRFs, arXiv 1412.7062"
    default_num_classes = 21
    pixel_mean = (122.675, 116.669, 104.008)
    fc_channels = 1024

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, stage5_dilation=2)
        self.fc6 = convolution(self.stage_channels[4], self.fc_channels, 3, padding=12, dilation=12)
        self.fc8 = head_conv(self.fc_channels, spec.num_classes)

    def network(self, image: Tensor) -> Tensor:
        """Image (N, in_channels, 32i - 31, 32j - 31) -> logits (N, num_classes, 4i - 3, 4j - 3)."""
        x = image
        for stage, stride in enumerate((2, 2, 2, 1, 1), 1):
            x = F.max_pool2d(self.stage(stage, x), 3, stride, padding=1, ceil_mode=True)
        x = F.avg_pool2d(x, 3, stride=1, padding=1)  # pool5a; the average includes the padding's zeros
        x = F.dropout(self.fc6(x).relu(), 0.5, self.training)
        x = F.dropout(self.fc7(x).relu(), 0.5, self.training)
        logits: Tensor = self.fc8(x)
        return logits

    def forward_padded(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        height, width = image.shape[-2:]
        padded_height, padded_width = (height + 30) // 32 * 32 + 1, (width + 30) // 32 * 32 + 1
        logits = self.network(F.pad(image, (0, padded_width - width, 0, padded_height - height)))
        return F.interpolate(logits, (padded_height, padded_width), mode="bilinear", align_corners=True), None

    def subsample_fc6_fc7(self, weights: FC6FC7) -> FC6FC7:
        """Keeps every fourth channel and every third row and column; the authors did not publish their choice."""
        (fc6, bias6), (fc7, bias7) = weights
        return (fc6[::4, :, ::3, ::3], bias6[::4]), (fc7[::4, ::4], bias7[::4])
