"""Bayesian SegNet: SegNet with dropout in the middle, which stays on at test time and tells how sure the network is.

Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680, the variant "central encoder-decoder" of table 1;
layers and names as in the authors' bayesian_segnet_train.prototxt (SegNet-Tutorial): encdrop3, 4 and 5 after the pools,
decdrop5, 4 and 3 after the last convolution of each decoder.

The network of the authors' released CamVid weights is another one: one more convolution of 64 channels stands before
the last, 29,486,411 parameters with 11 classes. That the variant is the one of table 1 is known from the prototxt only.
"""

from segzoo.models.base import ModelConfig
from segzoo.models.papers.sampling import Sampling
from segzoo.models.papers.segnet import VGGSegNet


class BayesianSegNet(Sampling, VGGSegNet):
    """Image of 0-255, BGR, no mean subtracted -> logits of its size; `predict(image, samples=40)` samples them."""

    paper = "Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680"

    def __init__(self, config: ModelConfig) -> None:
        VGGSegNet.__init__(self, config, dropout=(3, 4, 5))
