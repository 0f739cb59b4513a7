"""What every decoder is."""

from typing import ClassVar

from torch import Tensor, nn

from segzoo.models.features import Features, HiddenWeights


class Decoder(nn.Module):
    """Abstract: the encoder's maps -> logits (N, num_classes, h, w) at the decoder's own size; the model resizes them.

    The class variables say what a decoder needs, so that errors, `segzoo list` and the table in the docs come from
    data. Concrete decoders are final, and take `(features, num_classes, *, options...)`; the options are theirs alone,
    each a JSON value with a default, since a checkpoint keeps them.
    """

    paper: ClassVar[str]
    """Authors, title, arXiv number."""

    encoder: ClassVar[str]
    """The paper's own encoder, taken where none is asked for."""

    levels: ClassVar[tuple[int, ...]] = ()
    """Levels that must be there. Beyond these a decoder loops over what there is."""

    output_strides: ClassVar[tuple[int, ...]] = (32,)
    """Output strides of the encoder that it works on, the default first; 32 is the plain network."""

    has_hidden: ClassVar[bool] = False
    """Whether it has the two hidden layers of VGG's classifier, which `load_hidden` fills."""

    def __init__(self, features: Features, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.num_classes = num_classes

    def forward(self, maps: list[Tensor]) -> Tensor:
        raise NotImplementedError

    @property
    def last(self) -> nn.Conv2d:
        """The convolution whose bias reaches the logits as it is: what is added to it is added to them."""
        score = self.score
        assert isinstance(score, nn.Conv2d)
        return score

    def auxiliary(self, maps: list[Tensor]) -> Tensor | None:
        """Logits of a second head on a shallower map, for training with deep supervision; None where there is none."""
        return None

    def load_hidden(self, weights: HiddenWeights) -> bool:
        """Starts from a pretrained classifier's hidden layers; False, and nothing changed, where the shapes differ.

        Decoders with `has_hidden` have this.
        """
        raise NotImplementedError
