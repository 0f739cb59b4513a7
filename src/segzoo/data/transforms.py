"""The steps that augmentation is made of, on torchvision.transforms.v2: each changes an image and its mask together.

A step is a frozen record of its options. Called with an image and its mask as tv_tensors, (3, H, W) uint8 and
(1, H, W), it draws from torch's generator and returns both anew. Masks are sampled by nearest neighbour, so that no id
comes up that was not there, and what comes from outside of the image becomes the ignored id.

torchvision's own transform classes are not used where they would cost more: cropping before scaling touches fewer
pixels, and U-Net's elastic deformation needs no wide Gaussian kernel.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

Pair = tuple[float, float]

Limits = Mapping[str, Pair]
"""For each option that is a number, or two: the least and the greatest that it can be."""

FILL = [124, 116, 104]
"""The colour outside of the image: ImageNet's mean, which normalisation turns into about zero, like padding."""

_FACTOR = (0.01, 100.0)


class Step(Protocol):
    """A change of image and mask together, made with probability `p`."""

    limits: ClassVar[Limits]

    @property
    def p(self) -> float: ...

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class Crop:
    """A window of the image, scaled to height x width pixels; what lies outside of the image is filled.

    Attributes:
        height, width: of the result, in pixels.
        scale: least and greatest factor by which the image grows, drawn evenly on a logarithmic scale.
        stretch: greatest ratio of the two sides' factors; 1 keeps the shape.
        most: the greatest part of the window, 0-1, that one class may take; ten windows are tried.
    """

    height: int
    width: int
    scale: Pair = (1.0, 1.0)
    stretch: float = 1.0
    most: float = 1.0
    p: float = 1.0
    limits: ClassVar[Limits] = {
        "height": (1, 65536),
        "width": (1, 65536),
        "scale": _FACTOR,
        "stretch": (1, 10),
        "most": (0.01, 1),
    }

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        for _ in range(10):
            box = self._box(*mask.shape[-2:])
            if self.most >= 1 or self._mixed(mask, box, ignored):
                break
        top, left, height, width = box
        high, wide = mask.shape[-2:]
        inside = max(top, 0), max(left, 0), min(top + height, high), min(left + width, wide)
        # Where the part that is inside comes to lie in the result.
        down, right = self.height / height, self.width / width
        place = [round((inside[0] - top) * down), round((inside[1] - left) * right)]
        end = [round((inside[2] - top) * down), round((inside[3] - left) * right)]
        size = [max(1, end[0] - place[0]), max(1, end[1] - place[1])]
        place = [min(place[0], self.height - size[0]), min(place[1], self.width - size[1])]
        padding = [place[1], place[0], self.width - place[1] - size[1], self.height - place[0] - size[0]]
        image, mask = (one[..., inside[0] : inside[2], inside[1] : inside[3]] for one in (image, mask))
        image = F.resize(tv_tensors.Image(image), size, antialias=True)
        mask = F.resize(tv_tensors.Mask(mask), size, interpolation=InterpolationMode.NEAREST)
        if any(padding):
            image, mask = F.pad(image, padding, fill=FILL), F.pad(mask, padding, fill=ignored)
        return image, mask

    def _box(self, high: int, wide: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of a window, in pixels of the image; it may reach beyond the image."""
        factor, stretch = logarithmic(*self.scale), math.sqrt(logarithmic(1 / self.stretch, self.stretch))
        height = max(1, round(self.height / (factor * stretch)))
        width = max(1, round(self.width / (factor / stretch)))
        return (
            whole(min(0, high - height), max(0, high - height)),
            whole(min(0, wide - width), max(0, wide - width)),
            height,
            width,
        )

    def _mixed(self, mask: Tensor, box: tuple[int, int, int, int], ignored: int) -> bool:
        top, left, height, width = box
        window = mask[..., max(top, 0) : top + height, max(left, 0) : left + width]
        _, counts = torch.unique(window[window != ignored], return_counts=True)
        return len(counts) > 0 and int(counts.max()) <= self.most * int(counts.sum())


@dataclass(frozen=True)
class Scale:
    """The whole image, grown by a factor drawn evenly on a logarithmic scale."""

    scale: Pair = (0.75, 1.25)
    p: float = 1.0
    limits: ClassVar[Limits] = {"scale": _FACTOR}

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        factor = logarithmic(*self.scale)
        size = [max(1, round(side * factor)) for side in mask.shape[-2:]]
        return F.resize(image, size, antialias=True), F.resize(mask, size, interpolation=InterpolationMode.NEAREST)


@dataclass(frozen=True)
class Flip:
    """Mirrored left to right, or, with vertical, top to bottom."""

    vertical: bool = False
    p: float = 0.5
    limits: ClassVar[Limits] = {}

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        flip = F.vertical_flip if self.vertical else F.horizontal_flip
        return flip(image), flip(mask)


@dataclass(frozen=True)
class Affine:
    """Turned, shifted, scaled and sheared about the middle; what comes from outside is filled.

    Attributes:
        degrees: greatest turn either way.
        translate: greatest shift either way, as a part of each side, 0-1.
        scale: least and greatest factor, drawn evenly on a logarithmic scale.
        shear: greatest shear either way, in degrees.
    """

    degrees: float = 10.0
    translate: float = 0.0
    scale: Pair = (1.0, 1.0)
    shear: float = 0.0
    p: float = 0.5
    limits: ClassVar[Limits] = {"degrees": (0, 180), "translate": (0, 1), "scale": _FACTOR, "shear": (0, 80)}

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        high, wide = mask.shape[-2:]
        angle, shear = (uniform(-most, most) for most in (self.degrees, self.shear))
        shift = [uniform(-self.translate, self.translate) * side for side in (wide, high)]
        factor = logarithmic(*self.scale)
        options = {"angle": angle, "translate": shift, "scale": factor, "shear": [shear, 0.0]}
        return (
            F.affine(image, **options, interpolation=InterpolationMode.BILINEAR, fill=FILL),
            F.affine(mask, **options, interpolation=InterpolationMode.NEAREST, fill=ignored),
        )


@dataclass(frozen=True)
class Elastic:
    """U-Net's smooth deformation (arXiv 1505.04597, section 3.1): random shifts on a coarse grid, bicubic between them.

    Attributes:
        sigma: standard deviation of the shifts, in pixels.
        grid: points of the grid along each side.
    """

    sigma: float = 10.0
    grid: int = 3
    p: float = 0.5
    limits: ClassVar[Limits] = {"sigma": (0, 1000), "grid": (2, 64)}

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        high, wide = mask.shape[-2:]
        # From -1 to 1 is what torch counts an image's side as.
        coarse = (
            torch.randn(1, 2, self.grid, self.grid) * self.sigma * torch.tensor([2 / wide, 2 / high]).view(1, 2, 1, 1)
        )
        shifts = nnf.interpolate(coarse, (high, wide), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        return (
            F.elastic(image, shifts, interpolation=InterpolationMode.BILINEAR, fill=FILL),
            F.elastic(mask, shifts, interpolation=InterpolationMode.NEAREST, fill=ignored),
        )


@dataclass(frozen=True)
class Colour:
    """Brightness, contrast, saturation and hue, each changed by up to its option either way.

    Attributes:
        brightness, contrast, saturation: greatest change of the factor 1: 0.4 draws from 0.6 to 1.4.
        hue: greatest turn of the hue, 0-0.5 of the circle; it takes longer than the other three together.
        gamma: greatest exponent, and one over the least; 1 leaves it out.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0
    gamma: float = 1.0
    p: float = 1.0
    limits: ClassVar[Limits] = {
        "brightness": (0, 10),
        "contrast": (0, 10),
        "saturation": (0, 10),
        "hue": (0, 0.5),
        "gamma": (1, 10),
    }

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        changes = (
            (F.adjust_brightness, self.brightness),
            (F.adjust_contrast, self.contrast),
            (F.adjust_saturation, self.saturation),
        )
        for place in torch.randperm(len(changes)).tolist():
            change, most = changes[place]
            if most > 0:
                image = change(image, uniform(max(0.0, 1 - most), 1 + most))
        if self.hue > 0:
            image = F.adjust_hue(image, uniform(-self.hue, self.hue))
        if self.gamma != 1:
            image = F.adjust_gamma(image, logarithmic(1 / self.gamma, self.gamma))
        return image, mask


@dataclass(frozen=True)
class Gray:
    """Without its colours."""

    p: float = 0.1
    limits: ClassVar[Limits] = {}

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        return F.rgb_to_grayscale(image, num_output_channels=3), mask


@dataclass(frozen=True)
class Blur:
    """Gaussian blur; sigma in pixels."""

    sigma: Pair = (0.3, 1.5)
    p: float = 0.2
    limits: ClassVar[Limits] = {"sigma": (0.01, 100)}

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        sigma = uniform(*self.sigma)
        # Reflected borders need an image larger than the kernel's half.
        reach = min(math.ceil(3 * sigma), *(side - 1 for side in mask.shape[-2:]))
        return F.gaussian_blur(image, [2 * reach + 1] * 2, [sigma] * 2), mask


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, added to each value on its own; sigma as a part of the range of values, 0-1."""

    sigma: Pair = (0.0, 0.05)
    p: float = 0.2
    limits: ClassVar[Limits] = {"sigma": (0, 1)}

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        return F.gaussian_noise(image, sigma=uniform(*self.sigma)), mask


@dataclass(frozen=True)
class Dropout:
    """Rectangles of the image erased (coarse dropout, cutout).

    Attributes:
        count: least and greatest number of them.
        size: least and greatest side, as a part of the image's side, 0-1.
        ignore: whether the mask becomes the ignored id there; otherwise the network has to guess what was there.
    """

    count: tuple[int, int] = (1, 4)
    size: Pair = (0.05, 0.2)
    ignore: bool = False
    p: float = 0.5
    limits: ClassVar[Limits] = {"count": (0, 1000), "size": (0.001, 1)}

    def __call__(self, image: Tensor, mask: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
        image, mask = image.clone(), mask.clone()
        high, wide = mask.shape[-2:]
        for _ in range(whole(*self.count)):
            height, width = (min(side, max(1, round(uniform(*self.size) * side))) for side in (high, wide))
            top, left = whole(0, high - height), whole(0, wide - width)
            window = (..., slice(top, top + height), slice(left, left + width))
            image[window] = torch.tensor(FILL, dtype=torch.uint8)[:, None, None]
            if self.ignore:
                mask[window] = ignored
        return image, mask


STEPS: dict[str, type[Step]] = {
    "crop": Crop,
    "scale": Scale,
    "flip": Flip,
    "affine": Affine,
    "elastic": Elastic,
    "colour": Colour,
    "gray": Gray,
    "blur": Blur,
    "noise": Noise,
    "dropout": Dropout,
}


def uniform(low: float, high: float) -> float:
    """A number from low to high."""
    return low + (high - low) * float(torch.rand(()))


def logarithmic(low: float, high: float) -> float:
    """A number from low to high, halving as likely as doubling."""
    return math.exp(uniform(math.log(low), math.log(high)))


def whole(low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, ()))
