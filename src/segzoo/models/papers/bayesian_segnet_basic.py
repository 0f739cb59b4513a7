"""Bayesian SegNet-Basic: SegNet-Basic with dropout in its two deepest encoders and decoders, kept on at test time.

Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680. Layers, names and input follow the authors'
bayesian_segnet_basic_train.prototxt (SegNet-Tutorial): encdrop3 and 4 after the pools, decdrop4 and 3 after the batch
normalization of the decoders. Apart from dropout, only the name of the last layer differs from SegNet-Basic.
"""

from segzoo.models.papers.segnet_basic import Basic
from segzoo.spec import ModelSpec


class BayesianSegNetBasic(Basic):
    """Takes BGR pixels of 0-255, no mean subtracted; logits at image size. `predict(image, samples=40)` samples."""

    paper = "Kendall, Badrinarayanan, Cipolla: Bayesian SegNet, arXiv 1511.02680"

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, head="dense_softmax_inner_prod", dropout=(3, 4))
