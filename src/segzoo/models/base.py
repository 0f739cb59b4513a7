"""A segmentation model: what all of them are, and the one made of an encoder and a decoder."""

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segzoo._registry import check_predict_options
from segzoo.classes import LabelSet
from segzoo.data.images import ImageLike, read_image
from segzoo.errors import ImageError, OptionError
from segzoo.models.decoders import Decoder
from segzoo.models.encoders import Encoder


@dataclass(frozen=True)
class ModelConfig:
    """What rebuilds a model; with its weights, what a checkpoint holds."""

    decoder: str
    """The name of a decoder, or of a paper's whole network ("paper/fcn8s")."""

    encoder: str | None
    """None of a paper's network, as is `output_stride`."""

    num_classes: int
    labels: LabelSet
    in_channels: int = 3
    output_stride: int | None = 32
    options: dict[str, Any] = field(default_factory=dict)
    """The decoder's or paper's own options, those that were given."""

    info: dict[str, Any] = field(default_factory=dict)
    """Whatever else belongs to the weights, as JSON values: training data, metrics, licence."""


class SegmentationModel(nn.Module):
    """Abstract: image (N, in_channels, H, W), normalised, any H, W >= 1 -> logits (N, num_classes, H, W).

    `segzoo.create` builds one: an `EncoderDecoder`, or a paper's own network. `predict` takes photographs; `forward`
    takes what `normalise` returns.
    """

    multiple: int
    """Height and width are padded to multiples of this, on the right and at the bottom."""

    smallest: int = 1
    """And to this at least."""

    channel_order: Literal["RGB", "BGR"] = "RGB"
    """Of what `normalise` returns. Images, `mean` and `std` are RGB always."""

    def __init__(self, config: ModelConfig, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.config = config
        self.mean = mean
        self.std = std
        self._new_head: tuple[str, Tensor] | None = None

    @property
    def labels(self) -> LabelSet:
        """Names and colours of the classes."""
        return self.config.labels

    @overload
    def forward(self, image: Tensor, auxiliary: Literal[False] = False) -> Tensor: ...
    @overload
    def forward(self, image: Tensor, auxiliary: Literal[True]) -> tuple[Tensor, Tensor | None]: ...
    def forward(self, image: Tensor, auxiliary: bool = False) -> Tensor | tuple[Tensor, Tensor | None]:
        """Logits at the image's own size; with `auxiliary` also the auxiliary head's, None where there is none."""
        channels = self.config.in_channels
        if image.ndim != 4 or image.shape[1] != channels or not image.is_floating_point():
            raise ImageError(
                f"The model takes normalised floats (N, {channels}, H, W), not {image.dtype} {tuple(image.shape)}. "
                "model.normalise turns uint8 images (N, H, W, channels) into them, and model.predict takes photographs."
            )
        height, width = image.shape[-2:]
        logits, second = self.scores(image, auxiliary)
        logits = logits[..., :height, :width]
        if not auxiliary:
            return logits
        return logits, None if second is None else second[..., :height, :width]

    def scores(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        """What `forward` gives before it crops: logits whose upper left corner, of the image's size, is the result.

        Cropping labels instead of logits moves a byte a pixel, not num_classes floats.

        Returns:
            logits (N, num_classes, H', W'), H' >= H and W' >= W, and the auxiliary head's where these are asked for and
            there is such a head.
        """
        raise NotImplementedError

    def _pad(self, image: Tensor) -> Tensor:
        """To multiples, on the right and at the bottom."""
        height, width = image.shape[-2:]
        # Written so that torch.compile and the exporter both see sizes as multiples: -height % k breaks the first.
        k = self.multiple
        if k == 1:
            return image
        padded_height, padded_width = (height + k - 1) // k * k, (width + k - 1) // k * k
        if self.smallest > k:
            # Not max, which would have the exporter choose one of the two for good.
            padded_height = torch.sym_max(padded_height, self.smallest)  # type: ignore[assignment]
            padded_width = torch.sym_max(padded_width, self.smallest)  # type: ignore[assignment]
        lost = (self.smallest - 1) // k  # positions of the deepest map that a convolution without padding takes
        if self.training and image.shape[0] * (padded_height // k - lost) * (padded_width // k - lost) == 1:
            padded_width += k  # batch normalisation refuses to train on the deepest map's one single value
        # Zero after normalisation is what the first convolution's own padding shows it anyway.
        return F.pad(image, (0, padded_width - width, 0, padded_height - height))

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images (N, H, W, in_channels), 0-255 -> what `forward` takes, float32 (N, in_channels, H, W).

        (x / 255 - mean) / std, folded into one scale and one shift; channels as `channel_order` says.
        """
        channels = self.config.in_channels
        if images.ndim != 4 or images.shape[3] != channels or images.dtype != torch.uint8:
            raise ImageError(
                f"normalise takes uint8 images (N, H, W, {channels}), 0-255, not {images.dtype} {tuple(images.shape)}."
            )
        mean, std = torch.tensor([self.mean, self.std], dtype=torch.float64)
        scale, shift = (t.to(images.device, torch.float32)[:, None, None] for t in (1 / (255 * std), -mean / std))
        normalised: Tensor = images.permute(0, 3, 1, 2).float() * scale + shift
        return normalised[:, [2, 1, 0]] if self.channel_order == "BGR" else normalised

    def classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (N, H, W, in_channels) -> labels (N, H, W), and the logits (N, num_classes, H, W) behind."""
        logits, _ = self.scores(self.normalise(images), auxiliary=False)
        height, width = images.shape[1:3]
        return self.labels_of(logits)[:, :height, :width], logits[..., :height, :width]

    def labels_of(self, logits: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) -> class ids (N, H, W), uint8, or int32 for more than 256 classes."""
        return logits.argmax(1).to(torch.uint8 if self.config.num_classes <= 256 else torch.int32)

    @overload  # a str is a sequence of str to the type checker
    def predict(self, image: ImageLike) -> NDArray[Any]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, image: Sequence[ImageLike]) -> list[NDArray[Any]]: ...
    def predict(self, image: ImageLike | Sequence[ImageLike], **others: Any) -> NDArray[Any] | list[NDArray[Any]]:
        """Labels of an image, or of each image of a list (sizes may differ).

        The model is in eval mode while it predicts, on the device where its weights are. It warns (UserWarning), once,
        where `segzoo.load` gave it a new head that has not been trained.

        Args:
            image: the path of an image file, a PIL image, or an uint8 array (H, W, in_channels), RGB, 0-255; or a list
                of these.

        Returns:
            class ids (H, W), uint8 (int32 for more than 256 classes), at the image's own size; for a list, a list.

        Raises:
            ImageError: an image cannot be read, or has not the model's channels.
            OptionError: an option; some papers' networks take one.
        """
        check_predict_options(self.config.decoder, others)
        if isinstance(image, list | tuple):
            return [self.predict(one) for one in image]
        self.warn_of_new_head()
        # A copy: torch will not share memory that it must not write to.
        pixels = torch.tensor(read_image(image, self.config.in_channels))  # type: ignore[arg-type]
        with evaluating(self), torch.inference_mode():
            labels, _ = self.classify(pixels[None].to(next(self.parameters()).device))
        result: NDArray[np.uint8 | np.int32] = labels[0].cpu().numpy()
        return result

    def remember_new_head(self, names: Iterable[str]) -> None:
        """Notes that these parameters have just got random weights, for `warn_of_new_head`."""
        own = dict(self.named_parameters(remove_duplicate=False))
        # One is enough, a kernel that training changes: biases often stay, and some upsampling is fixed.
        name = min(
            (name for name in names if name in own),
            key=lambda name: (not own[name].requires_grad, own[name].ndim < 2, own[name].numel()),
        )
        self._new_head = name, own[name].detach().clone()

    def warn_of_new_head(self) -> None:
        """Warns (UserWarning), once, where a new head still has the random weights that it began with."""
        if self._new_head is None:
            return
        (name, random), self._new_head = self._new_head, None
        now = dict(self.named_parameters(remove_duplicate=False)).get(name)
        if now is not None and torch.equal(now.detach().cpu(), random.cpu()):
            warnings.warn(
                f"The head for {self.config.num_classes} classes is new, and its weights are random: the labels mean "
                "nothing until the model is trained.",
                stacklevel=3,
            )

    def with_info(self, **info: Any) -> "SegmentationModel":
        """Adds to what the file says of the weights (training data, metrics, licence). Returns itself.

        Raises:
            OptionError: a value that JSON cannot hold, such as a tensor.
        """
        try:
            json.dumps(info)
        except (TypeError, ValueError) as error:
            raise OptionError(f"with_info takes what JSON can hold (numbers, texts, lists, dicts): {error}.") from None
        self.config = replace(self.config, info={**self.config.info, **info})
        return self


class EncoderDecoder(SegmentationModel):
    """Any encoder under any decoder, and the padding and resizing around them."""

    def __init__(self, encoder: Encoder, decoder: Decoder, config: ModelConfig) -> None:
        super().__init__(config, encoder.mean, encoder.std)
        self.encoder = encoder
        self.decoder = decoder
        self.multiple, self.smallest = encoder.multiple, encoder.smallest

    def scores(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        padded = self._pad(image)
        maps = self.encoder(padded)
        second = self.decoder.auxiliary(maps) if auxiliary else None
        size = padded.shape[-2:]
        return _resize(self.decoder(maps), size), None if second is None else _resize(second, size)


def _resize(logits: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; then each module is as it was, frozen ones among training ones too."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
