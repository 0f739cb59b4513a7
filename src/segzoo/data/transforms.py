"""The steps of augmentation, on torchvision.transforms.v2: each changes an image and its mask together.

A step is a frozen dataclass of its options. Called with an image and its mask as tv_tensors, (3, H, W) uint8 and
(1, H, W), it uses torch's generator and returns new ones. Masks are resampled with nearest neighbor, so that no new ids
appear, and the area outside the image is filled with `ignore_index`.

torchvision's own transform classes are not used if they are slower: cropping before scaling touches fewer pixels, and
U-Net's elastic deformation needs no large Gaussian kernel.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
import torch.nn.functional as nnf
from pydantic import AfterValidator, Field
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from segzoo import _registry
from segzoo.schema import Share


def _in_order(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"must be the minimum and the maximum, in this order, not {pair}")
    return pair


Factor = Annotated[float, Field(ge=0.01, le=100)]
Side = Annotated[int, Field(ge=1, le=65536)]
Change = Annotated[float, Field(ge=0, le=10)]
Ratio = Annotated[float, Field(ge=1, le=10)]
Ordered = AfterValidator(_in_order)
Count = Annotated[int, Field(ge=0, le=1000)]
Size = Annotated[float, Field(ge=0.001, le=1)]
Factors = Annotated[tuple[Factor, Factor], Ordered]
Shares = Annotated[tuple[Share, Share], Ordered]

FILL = [124, 116, 104]
"""The color outside the image: the ImageNet mean, which normalization maps to about 0, the value of zero padding."""


class Step(Protocol):
    """A change of an image and its mask, applied with probability `p`."""

    @property
    def p(self) -> float: ...

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Crop:
    """A window of the image, scaled to height x width pixels; the area outside the image is filled.

    Attributes:
        height, width: the size of the result, in pixels.
        scale: the range of the scale factor of the image, drawn log-uniformly.
        max_aspect: the maximum ratio of the scale factors of the two sides; 1 preserves the aspect ratio.
        cat_max_ratio: the maximum share of the window, 0-1, that one class may cover; at most ten windows are tried.
    """

    height: Side
    width: Side
    scale: Factors = (1.0, 1.0)
    max_aspect: Ratio = 1.0
    cat_max_ratio: Annotated[float, Field(ge=0.01, le=1)] = 1.0
    p: Share = 1.0

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        for _ in range(10):
            box = self._box(*mask.shape[-2:])
            if self.cat_max_ratio >= 1 or self._is_varied(mask, box, ignore_index):
                break
        top, left, height, width = box
        image_height, image_width = mask.shape[-2:]
        inside = max(top, 0), max(left, 0), min(top + height, image_height), min(left + width, image_width)
        # The position of the part inside the image, in the result.
        factor_y, factor_x = self.height / height, self.width / width
        start = [round((inside[0] - top) * factor_y), round((inside[1] - left) * factor_x)]
        end = [round((inside[2] - top) * factor_y), round((inside[3] - left) * factor_x)]
        size = [max(1, end[0] - start[0]), max(1, end[1] - start[1])]
        start = [min(start[0], self.height - size[0]), min(start[1], self.width - size[1])]
        padding = [start[1], start[0], self.width - start[1] - size[1], self.height - start[0] - size[0]]
        image, mask = (tensor[..., inside[0] : inside[2], inside[1] : inside[3]] for tensor in (image, mask))
        image = F.resize(tv_tensors.Image(image), size, antialias=True)
        mask = _resize_mask(mask, size)
        if any(padding):
            image, mask = F.pad(image, padding, fill=FILL), F.pad(mask, padding, fill=ignore_index)
        return image, mask

    def _box(self, image_height: int, image_width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of a window, in pixels of the image; it may extend beyond the image."""
        factor, aspect = log_uniform(*self.scale), math.sqrt(log_uniform(1 / self.max_aspect, self.max_aspect))
        height = max(1, round(self.height / (factor * aspect)))
        width = max(1, round(self.width / (factor / aspect)))
        return (
            uniform_int(min(0, image_height - height), max(0, image_height - height)),
            uniform_int(min(0, image_width - width), max(0, image_width - width)),
            height,
            width,
        )

    def _is_varied(self, mask: Tensor, box: tuple[int, int, int, int], ignore_index: int) -> bool:
        top, left, height, width = box
        window = mask[..., max(top, 0) : top + height, max(left, 0) : left + width]
        _, counts = torch.unique(window[window != ignore_index], return_counts=True)
        return len(counts) > 0 and int(counts.max()) <= self.cat_max_ratio * int(counts.sum())


@dataclass(frozen=True)
class Scale:
    """The whole image, scaled by a factor drawn log-uniformly."""

    scale: Factors = (0.75, 1.25)
    p: Share = 1.0

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        factor = log_uniform(*self.scale)
        size = [max(1, round(side * factor)) for side in mask.shape[-2:]]
        return F.resize(image, size, antialias=True), _resize_mask(mask, size)


@dataclass(frozen=True)
class Flip:
    """Mirrors left to right, or top to bottom with `vertical`."""

    vertical: bool = False
    p: Share = 0.5

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        flip = F.vertical_flip if self.vertical else F.horizontal_flip
        return flip(image), flip(mask)


@dataclass(frozen=True)
class Affine:
    """Rotates, shifts, scales and shears about the center; the area outside the image is filled.

    Attributes:
        degrees: the maximum rotation in either direction.
        translate: the maximum shift in either direction, as a fraction of each side, 0-1.
        scale: the range of the scale factor, drawn log-uniformly.
        shear: the maximum shear in either direction, in degrees.
    """

    degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    translate: Share = 0.0
    scale: Factors = (1.0, 1.0)
    shear: Annotated[float, Field(ge=0, le=80)] = 0.0
    p: Share = 0.5

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        height, width = mask.shape[-2:]
        angle, shear = (uniform(-limit, limit) for limit in (self.degrees, self.shear))
        shift = [uniform(-self.translate, self.translate) * side for side in (width, height)]
        factor = log_uniform(*self.scale)
        options = {"angle": angle, "translate": shift, "scale": factor, "shear": [shear, 0.0]}
        return (
            F.affine(image, **options, interpolation=InterpolationMode.BILINEAR, fill=FILL),
            F.affine(mask, **options, interpolation=InterpolationMode.NEAREST, fill=ignore_index),
        )


@dataclass(frozen=True)
class Elastic:
    """U-Net's smooth deformation: random shifts on a coarse grid, interpolated bicubically (arXiv 1505.04597, 3.1).

    Attributes:
        sigma: the standard deviation of the shifts, in pixels.
        grid: the number of grid points along each side.
    """

    sigma: Annotated[float, Field(ge=0, le=1000)] = 10.0
    grid: Annotated[int, Field(ge=2, le=64)] = 3
    p: Share = 0.5

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        height, width = mask.shape[-2:]
        # torch's coordinates span -1 to 1 along each side.
        pixel = torch.tensor([2 / width, 2 / height]).view(1, 2, 1, 1)
        coarse = torch.randn(1, 2, self.grid, self.grid) * self.sigma * pixel
        shifts = nnf.interpolate(coarse, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        return (
            F.elastic(image, shifts, interpolation=InterpolationMode.BILINEAR, fill=FILL),
            F.elastic(mask, shifts, interpolation=InterpolationMode.NEAREST, fill=ignore_index),
        )


@dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast, saturation, hue and gamma at random.

    Attributes:
        brightness, contrast, saturation: the maximum deviation of the factor from 1: 0.4 draws from 0.6 to 1.4.
        hue: the maximum shift of the hue, as a fraction of the color circle, 0-0.5; slower than those three together.
        gamma: the maximum exponent; the minimum is its reciprocal. 1 disables it.
    """

    brightness: Change = 0.4
    contrast: Change = 0.4
    saturation: Change = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    gamma: Ratio = 1.0
    p: Share = 1.0

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        changes = (
            (F.adjust_brightness, self.brightness),
            (F.adjust_contrast, self.contrast),
            (F.adjust_saturation, self.saturation),
        )
        for index in torch.randperm(len(changes)).tolist():
            change, limit = changes[index]
            if limit > 0:
                image = change(image, uniform(max(0.0, 1 - limit), 1 + limit))
        if self.hue > 0:
            image = F.adjust_hue(image, uniform(-self.hue, self.hue))
        if self.gamma != 1:
            image = F.adjust_gamma(image, log_uniform(1 / self.gamma, self.gamma))
        return image, mask


@dataclass(frozen=True)
class Gray:
    """Converts the image to gray."""

    p: Share = 0.1

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        return F.rgb_to_grayscale(image, num_output_channels=3), mask


@dataclass(frozen=True)
class Blur:
    """Gaussian blur; the range of sigma is in pixels."""

    sigma: Factors = (0.3, 1.5)
    p: Share = 0.2

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        sigma = uniform(*self.sigma)
        # Reflection padding needs an image larger than half of the kernel.
        radius = min(math.ceil(3 * sigma), *(side - 1 for side in mask.shape[-2:]))
        return F.gaussian_blur(image, [2 * radius + 1] * 2, [sigma] * 2), mask


@dataclass(frozen=True)
class Noise:
    """Independent Gaussian noise on each value; the range of sigma is a fraction of the value range, 0-1."""

    sigma: Shares = (0.0, 0.05)
    p: Share = 0.2

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        return F.gaussian_noise(image, sigma=uniform(*self.sigma)), mask


@dataclass(frozen=True)
class Dropout:
    """Erases rectangles of the image (coarse dropout, cutout).

    Attributes:
        count: the range of the number of rectangles.
        size: the range of their sides, as a fraction of the image's side, 0-1.
        ignore: whether to set the mask to `ignore_index` there; otherwise the network has to guess the erased classes.
    """

    count: Annotated[tuple[Count, Count], Ordered] = (1, 4)
    size: Annotated[tuple[Size, Size], Ordered] = (0.05, 0.2)
    ignore: bool = False
    p: Share = 0.5

    def __call__(self, image: Tensor, mask: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
        image, mask = image.clone(), mask.clone()
        sides = mask.shape[-2:]
        for _ in range(uniform_int(*self.count)):
            height, width = (min(side, max(1, round(uniform(*self.size) * side))) for side in sides)
            top, left = uniform_int(0, sides[0] - height), uniform_int(0, sides[1] - width)
            window = (..., slice(top, top + height), slice(left, left + width))
            image[window] = torch.tensor(FILL, dtype=torch.uint8)[:, None, None]
            if self.ignore:
                mask[window] = ignore_index
        return image, mask


STEPS: Mapping[str, type[Step]] = _registry.TRANSFORMS.objects


def _resize_mask(mask: Tensor, size: list[int]) -> Tensor:
    """The mask (1, H, W) at another size, in register with an image that is resized bilinearly.

    Each pixel takes the id of the nearest pixel, center to center. torchvision's NEAREST compares corners, which moves
    masks half a pixel down and to the right; its NEAREST_EXACT compares centers, but not for a `tv_tensors.Mask`, and
    of two pixels that are equally near always takes the second, which moves masks by a quarter of a pixel at half size.
    """
    for dim, new in zip((-2, -1), size, strict=True):
        mask = mask.index_select(dim, _nearest(mask.shape[dim], new))
    resized: Tensor = tv_tensors.Mask(mask)
    return resized


def _nearest(old: int, new: int) -> Tensor:
    """The indices, out of `old`, of the `new` pixels along a side. Of two that are equally near, each in turn."""
    positions = torch.arange(1, 2 * new, 2) * old  # of the centers, in pixels of the old side, times 2 * new
    ties = positions % (2 * new) == 0
    return positions // (2 * new) - (ties & (ties.cumsum(0) % 2 == 1)).long()


def uniform(low: float, high: float) -> float:
    """A uniform random number from low to high."""
    return low + (high - low) * float(torch.rand(()))


def log_uniform(low: float, high: float) -> float:
    """A log-uniform random number from low to high: halving is as likely as doubling."""
    return math.exp(uniform(math.log(low), math.log(high)))


def uniform_int(low: int, high: int) -> int:
    """A uniform random integer from low to high, both included."""
    return int(torch.randint(low, high + 1, ()))
