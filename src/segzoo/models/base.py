"""`SegmentationModel`, the base class of all models, and `EncoderDecoder`."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar, Unpack, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segzoo.classes import ClassSet
from segzoo.data.images import ImageLike
from segzoo.errors import ImageError, OptionError
from segzoo.inference.options import PredictOptions
from segzoo.inference.predictor import Predictor
from segzoo.inference.result import Segmentation
from segzoo.models.decoders import Decoder
from segzoo.models.encoders import Encoder
from segzoo.spec import ModelSpec

_Image = TypeVar("_Image", bound=ImageLike)  # Lists are invariant: list[str] is not a list[ImageLike].


class SegmentationModel(nn.Module):
    """Abstract: image (N, in_channels, H, W), normalized, any H, W >= 1 -> logits (N, num_classes, H, W).

    `segzoo.create` builds an `EncoderDecoder` or a paper's network. `predict` takes photographs; `forward` takes what
    `normalize` returns.
    """

    spec: ModelSpec
    """Everything that rebuilds the model except its weights; files store it with them."""

    mean: Tensor
    """Mean of each channel (in_channels,), on a scale of 0 to 1; float32 regardless of the weights' dtype."""

    std: Tensor
    """Standard deviation of each channel, likewise."""

    def __init__(self, spec: ModelSpec) -> None:
        """`spec` must have mean and std."""
        super().__init__()
        self.spec = spec
        for name in ("mean", "std"):
            self.register_buffer(name, None, persistent=False)  # files store them in the spec
        self._set_statistics(torch.device("cpu"))
        self._new_head: tuple[str, Tensor] | None = None

    @property
    def classes(self) -> ClassSet:
        """Names, colors and ignore_index of the classes."""
        return self.spec.classes

    def set_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets the mean and standard deviation of each channel, on a scale of 0 to 1, in `spec` and for `normalize`.

        Raises:
            OptionError: not one finite number per channel, or a standard deviation is not above 0.
        """
        if not len(mean):  # a spec may have none, a model may not
            raise OptionError(
                f"mean and std must be {self.spec.in_channels} finite numbers each, not {mean} and {std}."
            )
        self.spec = self.spec.replace(mean=tuple(map(float, mean)), std=tuple(map(float, std)))
        self._set_statistics(self.mean.device)

    def _set_statistics(self, device: torch.device) -> None:
        self.mean, self.std = (
            torch.tensor(values, dtype=torch.float32, device=device) for values in (self.spec.mean, self.spec.std)
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        # half(), bfloat16() and double() convert every floating-point buffer. These two change the device only.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._set_statistics(self.mean.device)
        return self

    @overload
    def forward(self, image: Tensor, auxiliary: Literal[False] = False) -> Tensor: ...
    @overload
    def forward(self, image: Tensor, auxiliary: Literal[True]) -> tuple[Tensor, Tensor | None]: ...
    def forward(self, image: Tensor, auxiliary: bool = False) -> Tensor | tuple[Tensor, Tensor | None]:
        """Logits at the image's size; if `auxiliary`, also those of the auxiliary head (None if there is none)."""
        channels = self.spec.in_channels
        if image.ndim != 4 or image.shape[1] != channels or not image.is_floating_point():
            raise ImageError(
                f"The model takes normalized floats (N, {channels}, H, W), not {image.dtype} {tuple(image.shape)}. "
                "model.normalize converts uint8 images (N, H, W, channels); model.predict takes photographs."
            )
        height, width = image.shape[-2:]
        logits, second = self.forward_padded(image, auxiliary)
        logits = logits[..., :height, :width]
        if not auxiliary:
            return logits
        return logits, None if second is None else second[..., :height, :width]

    def forward_padded(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        """The logits of `forward` before cropping. The image's are the upper left corner, of the image's size.

        Cropping the mask instead of the logits moves one byte per pixel instead of num_classes floats.

        Returns:
            logits (N, num_classes, H', W'), H' >= H and W' >= W; and those of the auxiliary head, or None if
            `auxiliary` is False or there is no such head.
        """
        raise NotImplementedError

    def _pad(self, image: Tensor) -> Tensor:
        """Pads to the spec's `size_divisibility` and `min_size`, on the right and at the bottom."""
        height, width = image.shape[-2:]
        # Both torch.compile and the exporter recognize these sizes as multiples; -height % k would break torch.compile.
        k = self.spec.size_divisibility
        if k == 1:
            return image
        padded_height, padded_width = (height + k - 1) // k * k, (width + k - 1) // k * k
        if self.spec.min_size > k:
            # Not max: the exporter would fix the result to one of the two.
            padded_height = torch.sym_max(padded_height, self.spec.min_size)  # type: ignore[assignment]
            padded_width = torch.sym_max(padded_width, self.spec.min_size)  # type: ignore[assignment]
        lost = (self.spec.min_size - 1) // k  # rows and columns of the deepest map lost to unpadded convolutions
        if self.training and image.shape[0] * (padded_height // k - lost) * (padded_width // k - lost) == 1:
            padded_width += k  # batch normalization cannot train on a single value per channel
        # Zeros after normalization, as in the first convolution's own padding.
        return F.pad(image, (0, padded_width - width, 0, padded_height - height))

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 images (N, H, W, in_channels), 0-255 -> input of `forward`, float32 (N, in_channels, H, W).

        (x / 255 - mean) / std, folded into one scale and one shift; channels in the spec's `channel_order`.
        """
        channels = self.spec.in_channels
        if images.ndim != 4 or images.shape[3] != channels or images.dtype != torch.uint8:
            raise ImageError(
                f"normalize takes uint8 images (N, H, W, {channels}), 0-255, not {images.dtype} {tuple(images.shape)}."
            )
        scale, shift = (t[:, None, None] for t in (1 / (255 * self.std), -self.mean / self.std))
        normalized: Tensor = images.permute(0, 3, 1, 2).float() * scale + shift
        return normalized[:, [2, 1, 0]] if self.spec.channel_order == "BGR" else normalized

    def classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images (N, H, W, in_channels) -> masks (N, H, W), and their logits (N, num_classes, H, W)."""
        normalized = self.normalize(images).to(next(self.parameters()).dtype)
        logits, _ = self.forward_padded(normalized, auxiliary=False)
        height, width = images.shape[1:3]
        return self.to_mask(logits)[:, :height, :width], logits[..., :height, :width]

    def to_mask(self, logits: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) -> class ids (N, H, W), uint8, or int32 for more than 256 classes."""
        return logits.argmax(1).to(torch.uint8 if self.spec.num_classes <= 256 else torch.int32)

    @overload
    def predict(
        self, image: list[_Image] | tuple[_Image, ...], **options: Unpack[PredictOptions]
    ) -> list[Segmentation]: ...
    @overload
    def predict(self, image: ImageLike, **options: Unpack[PredictOptions]) -> Segmentation: ...
    def predict(self, image: Any, **options: Unpack[PredictOptions]) -> Segmentation | list[Segmentation]:
        """Predicts the mask of one image or of a list of images, as `segzoo.Predictor(model).predict` does.

        Runs on the device of the weights, as in eval mode, whatever mode the model is in, and changes nothing in it, so
        several threads may call it. Warns (UserWarning), once, if `segzoo.load` gave the model a new head that is still
        untrained.

        Args:
            image, options: as for `Predictor.predict`.

        Raises:
            ImageError: an image cannot be read, or has the wrong number of channels.
            OptionError: an option is invalid, or the model cannot do what it asks for.
        """
        result: Segmentation | list[Segmentation] = Predictor(self).predict(image, **options)
        return result

    def remember_new_head(self, names: Iterable[str]) -> None:
        """Records that these parameters have just been initialized at random, for `warn_of_new_head`."""
        own = dict(self.named_parameters(remove_duplicate=False))
        # One is enough. Prefer a kernel that training changes: biases may stay the same, and some upsampling is fixed.
        name = min(
            (name for name in names if name in own),
            key=lambda name: (not own[name].requires_grad, own[name].ndim < 2, own[name].numel()),
        )
        self._new_head = name, own[name].detach().clone()

    def warn_of_new_head(self) -> None:
        """Warns (UserWarning), once, if a new head still has its initial random weights."""
        if self._new_head is None:
            return
        (name, random), self._new_head = self._new_head, None
        current = dict(self.named_parameters(remove_duplicate=False)).get(name)
        if current is not None and torch.equal(current.detach().cpu(), random.cpu()):
            warnings.warn(
                f"The head for {self.spec.num_classes} classes is new, and its weights are random: masks are "
                "meaningless until the model is trained.",
                stacklevel=3,
            )

    def describe_infinities(self) -> str:
        """A sentence about weights that are infinite or not a number, which make masks meaningless; "" for none."""
        faulty = [name for name, tensor in self.state_dict().items() if not torch.isfinite(tensor).all()]
        if not faulty:
            return ""
        return (
            f"{len(faulty)} tensors of {self.spec.title} hold values that are infinite or not a number, such as "
            f"{faulty[0]}, so masks are meaningless: the training diverged, or the file is damaged."
        )

    def __repr__(self) -> str:
        count = sum(parameter.numel() for parameter in self.parameters())
        device = next((str(parameter.device) for parameter in self.parameters()), "no device")
        return f"{type(self).__name__}({self.spec.title}, {len(self.classes)} classes, {count:,} parameters, {device})"

    @property
    def tree(self) -> str:
        """The modules of the model as torch shows them: `print(model.tree)`."""
        return super().__repr__()

    def with_info(self, **info: Any) -> "SegmentationModel":
        """Adds to the spec's `info` about the weights (training data, metrics, license). Returns the model.

        Raises:
            OptionError: a value is not JSON, such as a tensor.
        """
        self.spec = self.spec.replace(info={**self.spec.info, **info})
        return self


class EncoderDecoder(SegmentationModel):
    """An encoder and a decoder, with padding before and resizing after them."""

    def __init__(self, encoder: Encoder, decoder: Decoder, spec: ModelSpec) -> None:
        super().__init__(
            spec.replace(
                mean=spec.mean or encoder.mean,
                std=spec.std or encoder.std,
                size_divisibility=encoder.size_divisibility,
                min_size=encoder.min_size,
            )
        )
        self.encoder = encoder
        self.decoder = decoder

    def forward_padded(self, image: Tensor, auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        padded = self._pad(image)
        maps = self.encoder(padded)
        second = self.decoder.auxiliary(maps) if auxiliary else None
        size = padded.shape[-2:]
        return _resize(self.decoder(maps), size), None if second is None else _resize(second, size)


def _resize(logits: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode in this context. Afterwards each module is in its previous mode, so that frozen ones stay frozen."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
