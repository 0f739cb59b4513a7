"""Published parameters of the dense CRF, as data."""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from segzoo.errors import OptionError


@dataclass(frozen=True)
class Parameters:
    """Weights and ranges of the two kernels; a weight of 0 leaves its kernel out.

    Attributes:
        w1: weight of the appearance kernel, at least 0.
        theta_alpha: its range in space, pixels, above 0.
        theta_beta: its range in colour, levels of 0-255, above 0.
        w2: weight of the smoothness kernel, at least 0.
        theta_gamma: its range in space, pixels, above 0.
        source: where the numbers are from.
        secondary: whether they are known from others only, and not from what the authors published.

    Raises:
        OptionError: a number outside its range.
    """

    w1: float
    theta_alpha: float
    theta_beta: float
    w2: float
    theta_gamma: float
    source: str = "yours"
    secondary: bool = False

    def __post_init__(self) -> None:
        for name in ("w1", "w2"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise OptionError(f"{name} is a weight from 0 up, not {getattr(self, name)!r}.")
        for name in ("theta_alpha", "theta_beta", "theta_gamma"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise OptionError(f"{name} is a range above 0, not {getattr(self, name)!r}.")


PRESETS = MappingProxyType(
    {
        "deeplab": Parameters(
            4,
            49,
            5,
            3,
            3,
            "DeepLab-LargeFOV's run_densecrf.sh, from copies of the authors' code",
            secondary=True,
        ),
        "deeplab_prototxt": Parameters(
            5, 50, 10, 3, 3, "the comment in DeepLab-LargeFOV's test.prototxt, from a public copy", secondary=True
        ),
        "densecrf": Parameters(
            10, 80, 13, 3, 3, "the example in Kraehenbuehl's released code, from public copies", secondary=True
        ),
        "msrc21": Parameters(
            10,
            61,
            11,
            1,
            1,
            "Kraehenbuehl and Koltun 2011 on MSRC-21, not checked against its text; w1 is that of their code's example",
            secondary=True,
        ),
        "deconvnet": Parameters(5, 20, 3, 3, 3, "DeconvNet's inference code, as others quote it", secondary=True),
    }
)
"""The parameters by name. Those of DeepLab were searched on 100 images of VOC's validation set: w1 in 5-10, theta_alpha
in 50-100, theta_beta in 3-10, with w2 and theta_gamma held at 3 (arXiv 1412.7062)."""
