"""An encoder-decoder defined by a string, whose decoder mirrors the encoder and shares its weights.

Naplava, Kluj, Svec: Tensorflow-Segmentation (github.com/arahusky/Tensorflow-Segmentation), a network that segments
faces in LFW; there is no paper. "C5,64,2C5,64,1M2" is a 5x5 convolution with 64 channels at stride 2, another at stride
1, and a 2x2 max pool. The decoder reverses the encoder: a pool becomes nearest-neighbor upsampling, a convolution
becomes its transpose. If tied, both share one weight tensor. A skip connection adds the output of a pool to the decoder
map of the same size, before that map is upsampled.

Each convolution and each transpose has its own bias and is followed by a leaky ReLU with slope 0.2, including the last
one. As in TensorFlow, "same" padding at stride 2 is larger on the right and at the bottom. The image is standardized:
its mean is subtracted, and it is divided by its standard deviation. The original takes gray images of 128 x 128; here,
other sizes are padded to multiples of the product of all strides, 64 by default.

Three points are segzoo's choices:

- Class scores. The original ends with the image's one channel and a sigmoid, face or background. Two classes with the
  logits 0 and y have the same probabilities. So the logit of class 0 is 0 here, and the last transpose computes the
  logits of the others. If there are as many of these as image channels (gray and two classes), the last transpose is
  tied as in the original; otherwise it has its own weights.
- No batch normalization. The code has it, using batch statistics at test time too; the authors' slides report that it
  did not help, and their best result, 97.36 % of pixels, was probably obtained without it.
- The original minimizes the root mean squared error; the network here prescribes no loss.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.models.layers.tied import SameConvolution, Transpose
from segzoo.models.papers.architecture_string import Pool, parse
from segzoo.models.papers.base import Paper
from segzoo.spec import ModelSpec


class ConvDeconv(Paper):
    """Takes gray pixels of 0-1; logits at image size.

    Args:
        architecture: the encoder as a sequence of `C{kernel},{channels},{stride}` and `M{size}`.
        skips: add the output of each pool to the decoder, except for a pool that ends the encoder or precedes every
            convolution.
        tied: a convolution and its transpose share one weight tensor.
    """

    paper = "Naplava, Kluj, Svec: github.com/arahusky/Tensorflow-Segmentation"
    default_num_classes = 2
    default_in_channels = 1
    pixel_mean = (0.0,)
    pixel_scale = 255.0

    def __init__(
        self,
        spec: ModelSpec,
        *,
        architecture: str = "C5,64,2C5,64,1M2C5,64,2C5,64,1M2C5,64,2C5,64,1M2",
        skips: bool = True,
        tied: bool = True,
    ) -> None:
        layers = parse(architecture)
        super().__init__(spec, math.prod(layer.stride for layer in layers))
        self.skips = skips
        encoder: list[nn.Module] = []
        decoder: list[nn.Module] = []
        in_channels = spec.in_channels
        for layer in layers:
            if isinstance(layer, Pool):
                encoder.append(nn.MaxPool2d(layer.size))
                decoder.append(nn.Upsample(scale_factor=layer.size, mode="nearest"))
                continue
            first = not any(isinstance(module, SameConvolution) for module in encoder)
            out_channels = spec.num_classes - 1 if first else in_channels
            convolution = SameConvolution(in_channels, layer.channels, layer.kernel, layer.stride)
            encoder.append(convolution)
            decoder.append(Transpose(convolution, out_channels, tied=tied and out_channels == in_channels))
            in_channels = layer.channels
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(reversed(decoder))

    def forward_padded(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        return self.network(self._pad(standardized(image))), None

    def network(self, image: Tensor) -> Tensor:
        """Standardized image, sides multiples of the product of all strides -> logits of the same size."""
        x, skips, convolved = image, [], False
        for layer in self.encoder:
            pool = isinstance(layer, nn.MaxPool2d)
            convolved = convolved or not pool
            x = layer(x) if pool else F.leaky_relu(layer(x), 0.2)
            skips.append(x if pool and convolved else None)  # the image itself is not added to the logits
        skips[-1] = None  # it would be added to itself
        for layer, skip in zip(self.decoder, reversed(skips), strict=True):
            x = layer(x if skip is None or not self.skips else x + skip)
            x = F.leaky_relu(x, 0.2) if isinstance(layer, Transpose) else x
        return F.pad(x, (0, 0, 0, 0, 1, 0))


def standardized(image: Tensor) -> Tensor:
    """tf.image.per_image_standardization: mean 0 and standard deviation 1 over all values of an image.

    The divisor is at least 1 / sqrt(number of values), so that a constant image becomes 0.
    """
    centered = image.to(torch.promote_types(image.dtype, torch.float32))  # sums of half precision would overflow
    centered = centered - centered.mean((1, 2, 3), keepdim=True)
    # Counted rather than computed from the size, which onnxruntime keeps on the CPU and would copy to the GPU.
    count = torch.ones_like(centered).sum((1, 2, 3), keepdim=True)
    squares = centered.square().sum((1, 2, 3), keepdim=True)
    return (centered * (count / squares.clamp(min=1)).sqrt()).to(image.dtype)
