"""Convolutions and their exact mirror, which shares their weights, written as a string.

Naplava, Kluj, Svec: Tensorflow-Segmentation (github.com/arahusky/Tensorflow-Segmentation), a network that finds faces
in LFW; no paper. "C5,64,2C5,64,1M2" is a convolution of 5x5 to 64 channels at stride 2, another at stride 1, and a
max-pool of 2. The decoder is the reversal: of a pool, each value repeated; of a convolution, its transpose. Tied, the
two have one tensor. A skip adds what a pool gave to what comes back to it, before the values are repeated.

Each convolution has a bias of its own each way, and a leaky ReLU of 0.2 behind it, the last one too. As in TensorFlow,
"same" padding at stride 2 is wider on the right and at the bottom. The image is standardised: its mean taken off,
and divided by its standard deviation. Images of the original are 128 x 128 and gray; others are padded to multiples of
all strides together, 64.

Three things are a choice here:

- Class scores. The original ends with the image's one channel and a sigmoid, face or not. Two classes with the scores
  0 and y have the same probabilities, so class 0 has score 0 here, and the mirror's last layer gives the scores of the
  others. Where those are as many as the image has channels (gray and two classes), it is tied as in the original; with
  any other number its weights are its own.
- No batch normalisation. The code has it, with the statistics of the batch at test time too; the authors' slides say
  that it did not help, and their best figure, 97.36 % of pixels, was probably had without.
- The original learns from the root of the mean square error; nothing here says what the loss is.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.models.base import ModelConfig
from segzoo.models.layers.tied import SameConvolution, Transpose
from segzoo.models.papers.architecture_string import Pool, parse
from segzoo.models.papers.base import Paper


class ConvDeconv(Paper):
    """Gray image of 0-1 -> logits of its size.

    Args:
        spec: `C{kernel},{channels},{stride}` and `M{size}` in a row, of the way down.
        skips: add what each pool gave, but for one that ends the way down, or comes before any convolution.
        tied: a convolution and its transpose share one tensor.
    """

    paper = "Naplava, Kluj, Svec: github.com/arahusky/Tensorflow-Segmentation"
    classes = 2
    channels = 1
    pixel_mean = (0.0,)
    pixel_scale = 255.0

    def __init__(
        self,
        config: ModelConfig,
        *,
        spec: str = "C5,64,2C5,64,1M2C5,64,2C5,64,1M2C5,64,2C5,64,1M2",
        skips: bool = True,
        tied: bool = True,
    ) -> None:
        super().__init__(config)
        self.skips = skips
        layers = parse(spec)
        self.multiple = math.prod(layer.stride for layer in layers)
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        before = config.in_channels
        for layer in layers:
            if isinstance(layer, Pool):
                down.append(nn.MaxPool2d(layer.size))
                up.append(nn.Upsample(scale_factor=layer.size, mode="nearest"))
                continue
            first = not any(isinstance(one, SameConvolution) for one in down)
            gives = config.num_classes - 1 if first else before
            convolution = SameConvolution(before, layer.channels, layer.kernel, layer.stride)
            down.append(convolution)
            up.append(Transpose(convolution, gives, tied=tied and gives == before))
            before = layer.channels
        self.encoder = nn.ModuleList(down)
        self.decoder = nn.ModuleList(reversed(up))

    def scores(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        return self.network(self._pad(standardised(image))), None

    def network(self, image: Tensor) -> Tensor:
        """The image standardised, its sides multiples of all strides together -> logits of its size."""
        x, pooled, convolved = image, [], False
        for layer in self.encoder:
            pool = isinstance(layer, nn.MaxPool2d)
            convolved = convolved or not pool
            x = layer(x) if pool else F.leaky_relu(layer(x), 0.2)
            pooled.append(x if pool and convolved else None)  # the image itself is not added to the scores
        pooled[-1] = None  # it would be added to itself
        for layer, across in zip(self.decoder, reversed(pooled), strict=True):
            x = layer(x if across is None or not self.skips else x + across)
            x = F.leaky_relu(x, 0.2) if isinstance(layer, Transpose) else x
        return F.pad(x, (0, 0, 0, 0, 1, 0))


def standardised(image: Tensor) -> Tensor:
    """tf.image.per_image_standardization: mean 0 and deviation 1 over all values of an image.

    What it divides by is at least 1 / sqrt(number of values), so that a flat image becomes 0.
    """
    wide = image.to(torch.promote_types(image.dtype, torch.float32))  # sums of half precision would overflow
    wide = wide - wide.mean((1, 2, 3), keepdim=True)
    # Counted, not computed from the size, which onnxruntime has on the CPU and would copy to the GPU.
    count = torch.ones_like(wide).sum((1, 2, 3), keepdim=True)
    squares = wide.square().sum((1, 2, 3), keepdim=True)
    return (wide * (count / squares.clamp(min=1)).sqrt()).to(image.dtype)
