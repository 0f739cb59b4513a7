"""`Decoder`: the base class of all decoders."""

from typing import ClassVar

from torch import Tensor, nn

from segzoo.models.features import FC6FC7, Features


class Decoder(nn.Module):
    """Abstract: the encoder's maps -> logits (N, num_classes, h, w) of any size; the model resizes them.

    The class variables state what a decoder needs; error messages, `segzoo list` and the table in the docs use them.
    Concrete decoders are final and take `(features, num_classes, *, options...)`. Each decoder has its own options.
    They are JSON values, because a checkpoint stores them, and have defaults.
    """

    paper: ClassVar[str]
    """Authors, title, arXiv number."""

    default_encoder: ClassVar[str]
    """The paper's encoder, used if none is given."""

    levels: ClassVar[tuple[int, ...]] = ()
    """Levels that the encoder must have. A decoder loops over any others that exist."""

    output_strides: ClassVar[tuple[int, ...]] = (32,)
    """Supported output strides of the encoder, the default first; 32 is the network without dilation."""

    head: nn.Conv2d
    """The last convolution. Its bias reaches the logits unchanged: adding to the bias adds to the logits."""

    has_fc6_fc7: ClassVar[bool] = False
    """Whether it has the two hidden layers of VGG's classifier, which `load_fc6_fc7` initializes."""

    def __init__(self, features: Features, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.num_classes = num_classes

    def forward(self, maps: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def auxiliary(self, maps: list[Tensor]) -> Tensor | None:
        """Logits of a second head on a shallower map, for training with deep supervision; None if it has none."""
        return None

    def load_fc6_fc7(self, weights: FC6FC7) -> bool:
        """Copies a pretrained classifier's hidden layers. If a shape differs, returns False and changes nothing.

        Decoders with `has_fc6_fc7` implement it.
        """
        raise NotImplementedError
