"""Bayesian SegNet: SegNet with dropout in its central layers, kept on at test time to estimate uncertainty.

Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680, the variant "central encoder-decoder" of table 1.
Layers and names follow the authors' bayesian_segnet_train.prototxt (SegNet-Tutorial): encdrop3, 4 and 5 after the
pools, decdrop5, 4 and 3 after the last convolution of each decoder stage.

The authors' released CamVid weights belong to a different network: it has one more convolution with 64 channels before
the last, 29,486,411 parameters with 11 classes. That the variant implemented here is that of table 1 is known only from
the prototxt.
"""

from segzoo.models.papers.segnet import VGGSegNet
from segzoo.spec import ModelSpec


class BayesianSegNet(VGGSegNet):
    """Takes BGR pixels of 0-255, no mean subtracted; logits at image size. `predict(image, samples=40)` samples."""

    paper = "Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, dropout=(3, 4, 5))
