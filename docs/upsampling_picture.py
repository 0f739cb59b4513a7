"""Draws images/upsampling.png: one feature map after a 2x2 max pool, upsampled in each of segzoo's five modes.

    python docs/upsampling_picture.py

The map: the edges of segzoo's photograph, at half size, in eight directions, one channel each, and zeros elsewhere. A
classifier's first layers make such maps; these come from Sobel's kernels, and are not learned. The picture shows one
channel of the temple's roof. Learned modules are fitted on another piece, the trees at the right
border, to reproduce the map before the pool. The numbers below the panels, which the file's metadata hold too, are root
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
from torch import Tensor, nn

from segzoo.data.sample import PHOTOGRAPH
from segzoo.models.layers.upsampling import UPSAMPLE_MODES, upsampling

PICTURE = Path(__file__).parent / "images" / "upsampling.png"

DIRECTIONS = 8
SHOWN = 6
"""The channel in the picture: edges that are light below and dark above."""
STEPS = 300
ROWS = ("initial", "fitted", "with a 3 x 3, fitted")

SIZE, ZOOM = 64, 3
SIDE = SIZE * ZOOM
_GAP, _TOP, _TEXT = 12, 30, 24
_INK, _FAINT, _LINE = (31, 35, 40), (101, 109, 118), (200, 205, 210)


@dataclass(frozen=True)
class Panel:
    """One map in the picture: a single channel, float (H, W), 0-1."""

    cell: tuple[int, int]
    """Column and row."""

    caption: str
    values: Tensor


def edges(photograph: Path) -> Tensor:
    """The rectified derivatives of a photograph at half size, in eight directions: (1, 8, H, W), at most 1."""
    picture = Image.open(photograph).convert("L").reduce(2)
    gray = torch.from_numpy(np.asarray(picture, np.float32))[None, None]
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    across, down = F.conv2d(gray, torch.stack((sobel, sobel.T))[:, None])[0]
    angles = [2 * math.pi * k / DIRECTIONS for k in range(DIRECTIONS)]
    edges = torch.stack([math.cos(a) * across + math.sin(a) * down for a in angles]).relu()[None]
    return edges / edges.max()


class WithConvolution(nn.Module):
    """An upsampling module followed by a 3x3 convolution, as in the simplest decoder."""

    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.convolution = nn.Conv2d(DIRECTIONS, DIRECTIONS, 3, padding=1)

    def forward(self, x: Tensor, ref: Tensor) -> Tensor:
        y: Tensor = self.convolution(self.up(x, ref))
        return y


def fit(up: nn.Module, before: Tensor) -> nn.Module:
    """Fits the module in place to reproduce the map before the pool."""
    pooled = F.max_pool2d(before, 2)
    optimizer = torch.optim.Adam(up.parameters(), 0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.mse_loss(up(pooled, before), before).backward()
        optimizer.step()
    return up


@torch.no_grad()
def error(upsampled: Tensor, before: Tensor) -> float:
    """Root mean square error, relative to the root mean square of the map before the pool."""
    return float((upsampled - before).square().mean().sqrt() / before.square().mean().sqrt())


def compute() -> tuple[list[Panel], dict[str, dict[str, float]]]:
    """The panels, and the errors by row and mode."""
    photograph = edges(PHOTOGRAPH)
    before, practice = photograph[..., 8 : 8 + SIZE, 62 : 62 + SIZE], photograph[..., 80:144, 238:302]
    pooled = F.max_pool2d(before, 2)
    panels = [
        Panel((0, 0), "before the pool", before[0, SHOWN]),
        Panel((0, 1), "after it: the input", pooled[0, SHOWN]),
    ]
    errors: dict[str, dict[str, float]] = {row: {} for row in ROWS}
    for column, mode in enumerate(UPSAMPLE_MODES, 1):
        for row, title in enumerate(ROWS):
            torch.manual_seed(0)
            up = upsampling(mode, DIRECTIONS, DIRECTIONS)
            if title == "fitted" and not list(up.parameters()):
                continue
            if row == 2:
                up = WithConvolution(up)
            if row > 0:
                up = fit(up, practice)
            with torch.no_grad():
                upsampled = up(pooled, before)
            errors[title][mode] = error(upsampled, before)
            panels.append(Panel((column, row), f"{title}: {errors[title][mode]:.2f}", upsampled[0, SHOWN]))
    return panels, errors


def pixels(panel: Panel, brightest: float) -> Image.Image:
    """A panel as a gray picture, dark for large values; a map of half the size is enlarged to the same size."""
    gray = (255 * (1 - (panel.values / brightest).clamp(0, 1))).round().byte().numpy()
    return Image.fromarray(gray).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def corner(cell: tuple[int, int]) -> tuple[int, int]:
    """The position of a panel's upper left pixel."""
    column, row = cell
    return _GAP + column * (SIDE + _GAP), _TOP + row * (SIDE + _TEXT + _GAP)


def draw(panels: list[Panel]) -> Image.Image:
    """The picture, with its captions."""
    canvas = Image.new("RGB", (corner((len(UPSAMPLE_MODES) + 1, 0))[0], corner((0, len(ROWS)))[1]), (255, 255, 255))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
    for column, mode in enumerate(UPSAMPLE_MODES, 1):
        pen.text((corner((column, 0))[0], _TOP - 8), mode, _INK, font, anchor="ls")
    brightest = float(panels[0].values.max())
    for panel in panels:
        left, top = corner(panel.cell)
        canvas.paste(pixels(panel, brightest), (left, top))
        pen.rectangle((left - 1, top - 1, left + SIDE, top + SIDE), outline=_LINE)
        pen.text((left, top + SIDE + 5), panel.caption, _FAINT, font)
    taken = {panel.cell for panel in panels}
    for cell in ((column, 1) for column in range(1, len(UPSAMPLE_MODES) + 1)):
        if cell not in taken:
            left, top = corner(cell)
            pen.text((left + SIDE // 2, top + SIDE // 2), "nothing to learn", _FAINT, font, anchor="mm")
    left, top = corner((0, 2))
    pen.multiline_text(
        (left, top),
        "The numbers are errors:\n0 for the map before\nthe pool, 1 for an\nempty map.",
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
