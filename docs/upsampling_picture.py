"""Draws images/upsampling.png: one feature map after a 2x2 max-pool, brought up five ways by segzoo's own modules.

    python docs/upsampling_picture.py

The map: the edges of a photograph (scikit-learn's china.jpg, at half size) in eight directions, a channel each, with
zeros where there is none. A classifier's first layers make such maps; these come from Sobel's kernels, and are not
learned. The picture shows one channel of the temple's roof. What is fitted is fitted on another piece, the trees at the
right border, to give back the map before the pool. The figures below the panels, which the file carries too, are root
mean square errors over all channels of the roof, divided by the map's own root mean square.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from segzoo.models.layers.upsampling import WAYS, upsampling

PICTURE = Path(__file__).parent / "images" / "upsampling.png"

DIRECTIONS = 8
SHOWN = 6
"""The channel in the picture: light below, dark above."""
STEPS = 300
ROWS = ("as it starts", "fitted", "and a 3 x 3, fitted")

SIZE, ZOOM = 64, 3
SIDE = SIZE * ZOOM
_GAP, _TOP, _TEXT = 12, 30, 24
_INK, _FAINT, _LINE = (31, 35, 40), (101, 109, 118), (200, 205, 210)


@dataclass(frozen=True)
class Panel:
    """A map of the picture: one channel, float (H, W), 0-1."""

    place: tuple[int, int]
    """Column and row."""

    caption: str
    values: Tensor


def edges(photograph: str) -> Tensor:
    """The rectified derivatives of a photograph at half size, in eight directions: (1, 8, H, W), the largest 1."""
    picture = Image.fromarray(load_sample_image(photograph)).convert("L").reduce(2)
    gray = torch.from_numpy(np.asarray(picture, np.float32))[None, None]
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    across, down = F.conv2d(gray, torch.stack((sobel, sobel.T))[:, None])[0]
    angles = [2 * math.pi * k / DIRECTIONS for k in range(DIRECTIONS)]
    found = torch.stack([math.cos(a) * across + math.sin(a) * down for a in angles]).relu()[None]
    return found / found.max()


class WithConvolution(nn.Module):
    """A way up, and the 3x3 convolution that stands behind it in a decoder, at its simplest."""

    def __init__(self, way: nn.Module) -> None:
        super().__init__()
        self.way = way
        self.convolution = nn.Conv2d(DIRECTIONS, DIRECTIONS, 3, padding=1)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        y: Tensor = self.convolution(self.way(x, like))
        return y


def fitted(way: nn.Module, before: Tensor) -> nn.Module:
    """The module after a fit that gives back the map before the pool."""
    pooled = F.max_pool2d(before, 2)
    optimiser = torch.optim.Adam(way.parameters(), 0.05)
    for _ in range(STEPS):
        optimiser.zero_grad()
        F.mse_loss(way(pooled, before), before).backward()
        optimiser.step()
    return way


@torch.no_grad()
def error(found: Tensor, before: Tensor) -> float:
    return float((found - before).square().mean().sqrt() / before.square().mean().sqrt())


def compute() -> tuple[list[Panel], dict[str, dict[str, float]]]:
    """The panels, and the errors by row and way."""
    whole = edges("china.jpg")
    before, practice = whole[..., 8 : 8 + SIZE, 62 : 62 + SIZE], whole[..., 80:144, 238:302]
    pooled = F.max_pool2d(before, 2)
    panels = [
        Panel((0, 0), "before the pool", before[0, SHOWN]),
        Panel((0, 1), "after it: what goes up", pooled[0, SHOWN]),
    ]
    errors: dict[str, dict[str, float]] = {row: {} for row in ROWS}
    for column, name in enumerate(WAYS, 1):
        for row, title in enumerate(ROWS):
            torch.manual_seed(0)
            way = upsampling(name, DIRECTIONS, DIRECTIONS)
            if title == "fitted" and not list(way.parameters()):
                continue
            if row == 2:
                way = WithConvolution(way)
            if row > 0:
                way = fitted(way, practice)
            with torch.no_grad():
                found = way(pooled, before)
            errors[title][name] = error(found, before)
            panels.append(Panel((column, row), f"{title}: {errors[title][name]:.2f}", found[0, SHOWN]))
    return panels, errors


def pixels(panel: Panel, brightest: float) -> Image.Image:
    """A panel as a gray picture, dark where the map is large; each value of a map of half the size takes two by two."""
    gray = (255 * (1 - (panel.values / brightest).clamp(0, 1))).round().byte().numpy()
    return Image.fromarray(gray).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def corner(place: tuple[int, int]) -> tuple[int, int]:
    """Where a panel's upper left pixel stands."""
    column, row = place
    return _GAP + column * (SIDE + _GAP), _TOP + row * (SIDE + _TEXT + _GAP)


def draw(panels: list[Panel]) -> Image.Image:
    """The whole picture, with its letters."""
    canvas = Image.new("RGB", (corner((len(WAYS) + 1, 0))[0], corner((0, len(ROWS)))[1]), (255, 255, 255))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
    for column, name in enumerate(WAYS, 1):
        pen.text((corner((column, 0))[0], _TOP - 8), name, _INK, font, anchor="ls")
    brightest = float(panels[0].values.max())
    for panel in panels:
        left, top = corner(panel.place)
        canvas.paste(pixels(panel, brightest), (left, top))
        pen.rectangle((left - 1, top - 1, left + SIDE, top + SIDE), outline=_LINE)
        pen.text((left, top + SIDE + 5), panel.caption, _FAINT, font)
    taken = {panel.place for panel in panels}
    for place in ((column, 1) for column in range(1, len(WAYS) + 1)):
        if place not in taken:
            left, top = corner(place)
            pen.text((left + SIDE // 2, top + SIDE // 2), "nothing to learn", _FAINT, font, anchor="mm")
    left, top = corner((0, 2))
    pen.multiline_text(
        (left, top),
        "The numbers are errors:\n0 is the map before\nthe pool, and 1 what\nan empty map has.",
        _FAINT,
        font,
    )
    return canvas


if __name__ == "__main__":
    panels, errors = compute()
    info = PngInfo()
    info.add_text("errors", json.dumps(errors))
    draw(panels).save(PICTURE, pnginfo=info, optimize=True)
    print(json.dumps(errors, indent=2))
