"""Bayesian SegNet-Basic: SegNet-Basic with dropout in its two deepest encoders and decoders, on at test time too.

Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680; layers, names and input as in the authors'
bayesian_segnet_basic_train.prototxt (SegNet-Tutorial): encdrop3 and 4 after the pools, decdrop4 and 3 after the
normalisation of the decoders. Only the last layer has another name than SegNet-Basic's.
"""

from segzoo.models.base import ModelConfig
from segzoo.models.papers.sampling import Sampling
from segzoo.models.papers.segnet_basic import Basic


class BayesianSegNetBasic(Sampling, Basic):
    """Image of 0-255, BGR, no mean subtracted -> logits of its size; `predict(image, samples=40)` samples them."""

    paper = "Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680"

    def __init__(self, config: ModelConfig) -> None:
        Basic.__init__(self, config, last="dense_softmax_inner_prod", dropout=(3, 4))
