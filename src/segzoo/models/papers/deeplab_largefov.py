"""DeepLab-LargeFOV, the first DeepLab: dilated convolutions keep 1/8 of the size, and fc6 sees far with few weights.

Chen, Papandreou, Kokkinos, Murphy, Yuille: Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
CRFs, ICLR 2015, arXiv 1412.7062, section 2 and table 1 (c).

Known from secondary sources: layers, pools and names are those of the prototxt in two forks of the authors' release
(TheLegendAli/DeepLab-Context, DrSleep/tensorflow-deeplab-lfov); pool5a, the average of 3 x 3 after pool5, is not in the
paper's text. The fully connected CRF that follows it in the paper is not part of the network.

The authors train on the scores at 1/8 with every eighth label; here the loss sees scores at the image's size.
"""

import torch.nn.functional as F
from torch import Tensor

from segzoo.models.base import ModelConfig
from segzoo.models.features import HiddenWeights
from segzoo.models.layers.conv import score_layer
from segzoo.models.papers.vgg16 import VGG16Classifier, convolution


class DeepLabLargeFOV(VGG16Classifier):
    """Image of 0-255, BGR, mean subtracted -> logits of its size.

    Corners of image and scores fall together at 32k - 31 pixels, as in training (321) and at test (513): other images
    get zeros, the mean colour, on the right and below, up to such a size.
    """

    paper = "Chen et al.: Semantic Image Segmentation with Deep Convolutional Nets and CRFs, arXiv 1412.7062"
    classes = 21
    pixel_mean = (122.675, 116.669, 104.008)
    hidden = 1024

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, last_dilation=2)
        self.fc6 = convolution(self.widths[4], self.hidden, 3, padding=12, dilation=12)
        self.fc8 = score_layer(self.hidden, config.num_classes)

    def network(self, image: Tensor) -> Tensor:
        """Image (N, in_channels, 32i - 31, 32j - 31) -> scores (N, num_classes, 4i - 3, 4j - 3)."""
        x = image
        for stage, stride in enumerate((2, 2, 2, 1, 1), 1):
            x = F.max_pool2d(self.stage(stage, x), 3, stride, padding=1, ceil_mode=True)
        x = F.avg_pool2d(x, 3, stride=1, padding=1)  # pool5a, zeros of the padding counted
        x = F.dropout(self.fc6(x).relu(), 0.5, self.training)
        x = F.dropout(self.fc7(x).relu(), 0.5, self.training)
        scores: Tensor = self.fc8(x)
        return scores

    def scores(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        height, width = image.shape[-2:]
        rows, columns = (height + 30) // 32 * 32 + 1, (width + 30) // 32 * 32 + 1
        scores = self.network(F.pad(image, (0, columns - width, 0, rows - height)))
        return F.interpolate(scores, (rows, columns), mode="bilinear", align_corners=True), None

    def thinned(self, weights: HiddenWeights) -> HiddenWeights:
        """Every fourth channel and every third row and column; the authors' own choice is not published."""
        (fc6, bias6), (fc7, bias7) = weights
        return (fc6[::4, :, ::3, ::3], bias6[::4]), (fc7[::4, ::4], bias7[::4])
