"""Published parameters of the dense CRF, as data."""

import math
import numbers
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from segzoo.errors import OptionError


def is_finite_number(value: Any) -> bool:
    """Whether the value is a finite real number, Python's or numpy's; True and "5" are not."""
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)


@dataclass(frozen=True)
class Parameters:
    """Weights and ranges of the two kernels; a weight of 0 disables its kernel.

    Attributes:
        w1: weight of the appearance kernel, at least 0.
        theta_alpha: its spatial range, pixels, above 0.
        theta_beta: its color range, levels of 0-255, above 0.
        w2: weight of the smoothness kernel, at least 0.
        theta_gamma: its spatial range, pixels, above 0.
        source: origin of the numbers. Those of the presets all come from third parties, not from their authors.

    Raises:
        OptionError: a number is outside its range.
    """

    w1: float
    theta_alpha: float
    theta_beta: float
    w2: float
    theta_gamma: float
    source: str = "yours"

    def __post_init__(self) -> None:
        for name in ("w1", "w2"):
            if not (is_finite_number(getattr(self, name)) and getattr(self, name) >= 0):
                raise OptionError(f"{name} is a weight and must be at least 0, not {getattr(self, name)!r}.")
        for name in ("theta_alpha", "theta_beta", "theta_gamma"):
            if not (is_finite_number(getattr(self, name)) and getattr(self, name) > 0):
                raise OptionError(f"{name} is a range and must be above 0, not {getattr(self, name)!r}.")


PRESETS = MappingProxyType(
    {
        "deeplab": Parameters(4, 49, 5, 3, 3, "DeepLab-LargeFOV's run_densecrf.sh, from copies of the authors' code"),
        "deeplab_prototxt": Parameters(
            5, 50, 10, 3, 3, "the comment in DeepLab-LargeFOV's test.prototxt, from a public copy"
        ),
        "densecrf": Parameters(10, 80, 13, 3, 3, "the example in Kraehenbuehl's released code, from public copies"),
        "msrc21": Parameters(
            10,
            61,
            11,
            1,
            1,
            "Kraehenbuehl and Koltun 2011 on MSRC-21, not checked against its text; w1 is from their code's example",
        ),
        "deconvnet": Parameters(5, 20, 3, 3, 3, "DeconvNet's inference code, as quoted by others"),
    }
)
"""Published parameters by name. DeepLab's come from a search on 100 images of VOC's validation set: w1 in 5-10,
theta_alpha in 50-100, theta_beta in 3-10, with w2 and theta_gamma fixed at 3 (arXiv 1412.7062)."""
