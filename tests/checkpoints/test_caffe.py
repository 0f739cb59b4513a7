"""The original Caffe networks: what OpenCV computes from a file, torch computes from the state dict made of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import caffe_files as files
import caffe_networks as networks
import cv2
import numpy as np
import pytest
import torch
from caffe_networks import Network
from torch import Tensor, nn
from torch.nn import functional as F

from segzoo.checkpoints.caffe import CaffeWeights, convert_caffe, to_rgb
from segzoo.checkpoints.caffemodel import CaffeLayer, CaffeNet, read_caffemodel
from segzoo.errors import CheckpointError

NARROW = (4, 5, 6, 7, 8)
FCN = ("fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce")
FORMS: tuple[files.Form, ...] = ("v1", "v2")

PUBLISHED: dict[str, tuple[Callable[[], Network], int]] = {
    "fcn32s": (lambda: networks.fcn("fcn32s"), 136_152_917),
    "fcn16s": (lambda: networks.fcn("fcn16s"), 134_815_994),
    "fcn8s": (lambda: networks.fcn("fcn8s"), 134_489_759),
    "fcn8s_atonce": (lambda: networks.fcn("fcn8s_atonce"), 134_489_759),
    "segnet": (networks.segnet, 29_449_355),
    "segnet_basic": (networks.segnet_basic, 1_416_587),
    "deconvnet": (networks.deconvnet, 251_805_653),
    "deeplab_largefov": (networks.deeplab_largefov, 20_505_429),
}
# V1 has no scale layer.
BOTH = [(kind, form) for kind in PUBLISHED for form in FORMS if (kind, form) != ("fcn8s_atonce", "v1")]


def narrow(kind: str) -> Network:
    made = {
        "segnet": lambda: networks.segnet(NARROW, 4),
        "segnet_basic": lambda: networks.segnet_basic(5, 4),
        "deconvnet": lambda: networks.deconvnet(NARROW, 9, 4),
        "deeplab_largefov": lambda: networks.deeplab_largefov(NARROW, 9, 4),
    }
    return made[kind]() if kind in made else networks.fcn(kind, NARROW, 9, 4)


def written(net: Network, form: files.Form, folder: Path) -> tuple[Path, dict[str, list[np.ndarray]]]:
    arrays = net.arrays(seed=3)
    path = folder / "net.caffemodel"
    path.write_bytes(net.caffemodel(arrays, form))
    return path, arrays


def opencv(net: Network, caffemodel: Path, image: Tensor) -> Tensor:
    """The scores of the last row, by OpenCV's own reader and arithmetic."""
    prototxt = caffemodel.with_suffix(".prototxt")
    prototxt.write_text(files.prototxt(net.rows, *image.shape[-2:]))
    run = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    run.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    run.enableWinograd(False)  # with it, OpenCV rounds ten times as coarsely
    run.setInput(image.numpy())
    return torch.from_numpy(run.forward())


def conv(t: dict[str, Tensor], name: str, x: Tensor, padding: int = 0, dilation: int = 1) -> Tensor:
    return F.conv2d(x, t[f"{name}.weight"], t[f"{name}.bias"], padding=padding, dilation=dilation)


def vgg16(
    t: dict[str, Tensor], x: Tensor, pool: Callable[[Tensor, int], Tensor], first: int, last: int
) -> list[Tensor]:
    """The five pools; `first` is the padding of conv1_1, `last` padding and dilation of conv5."""
    pools = []
    for stage, depth in enumerate((2, 2, 3, 3, 3), 1):
        for number in range(1, depth + 1):
            padding = first if (stage, number) == (1, 1) else last if stage == 5 else 1
            x = conv(t, f"conv{stage}_{number}", x, padding, last if stage == 5 else 1).relu()
        x = pool(x, stage)
        pools.append(x)
    return pools


def run_fcn(kind: str, t: dict[str, Tensor], image: Tensor) -> Tensor:
    pools = vgg16(t, image, lambda x, _: F.max_pool2d(x, 2, ceil_mode=True), 100, 1)
    x = conv(t, "fc7", conv(t, "fc6", pools[4]).relu()).relu()
    x = conv(t, "score_fr", x)

    def up(name: str, x: Tensor) -> Tensor:
        weight = t[f"{name}.weight"]
        return F.conv_transpose2d(x, weight, stride=weight.shape[2] // 2)

    def crop(x: Tensor, like: Tensor, offset: int) -> Tensor:
        height, width = like.shape[-2:]
        return x[..., offset : offset + height, offset : offset + width]

    if kind == "fcn32s":
        return crop(up("upscore", x), image, 19)
    x = up("upscore2", x)
    x = x + crop(conv(t, "score_pool4", pools[3]), x, 5)
    if kind == "fcn16s":
        return crop(up("upscore16", x), image, 27)
    x = up("upscore_pool4", x)
    x = x + crop(conv(t, "score_pool3", pools[2]), x, 9)
    return crop(up("upscore8", x), image, 31)


def run_largefov(t: dict[str, Tensor], image: Tensor) -> Tensor:
    pools = vgg16(t, image, lambda x, stage: F.max_pool2d(x, 3, 2 if stage < 4 else 1, 1, ceil_mode=True), 1, 2)
    x = F.avg_pool2d(pools[4], 3, 1, 1)
    x = conv(t, "fc8", conv(t, "fc7", conv(t, "fc6", x, 12, 12).relu()).relu())
    height, width = ((size - 1) * 8 + 1 for size in x.shape[-2:])
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=True)


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize(("kind", "form"), [both for both in BOTH if both[0] in FCN])
def test_fcn_gives_what_opencv_gives(kind: str, form: files.Form, tmp_path: Path) -> None:
    net = narrow(kind)
    path, _ = written(net, form, tmp_path)
    image = torch.rand(1, 3, 45, 70) * 255 - 110
    weights = convert_caffe(read_caffemodel(path))
    assert (weights.network, weights.num_classes) == (kind, 4)
    scores = run_fcn(kind, weights.tensors, image)
    assert scores.shape == (1, 4, 45, 70)
    assert_equal(scores, opencv(net, path, image))


@pytest.mark.parametrize("form", FORMS)
def test_largefov_gives_what_opencv_gives(form: files.Form, tmp_path: Path) -> None:
    net = narrow("deeplab_largefov")
    path, _ = written(net, form, tmp_path)
    image = torch.rand(1, 3, 65, 97) * 255 - 110
    weights = convert_caffe(read_caffemodel(path))
    assert (weights.network, weights.num_classes) == ("deeplab_largefov", 4)
    scores = run_largefov(weights.tensors, image)
    assert scores.shape == (1, 4, 65, 97)
    assert_equal(scores, opencv(net, path, image))


def test_the_scales_of_atonce_are_in_the_weights_and_not_in_the_biases(tmp_path: Path) -> None:
    path, arrays = written(narrow("fcn8s_atonce"), "v2", tmp_path)
    tensors = convert_caffe(read_caffemodel(path)).tensors
    for pool in ("pool4", "pool3"):
        weight, bias = map(torch.from_numpy, arrays[f"score_{pool}"])
        scale = torch.from_numpy(arrays[f"scale_{pool}"][0]).view(1, -1, 1, 1)
        torch.testing.assert_close(tensors[f"score_{pool}.weight"], weight * scale)
        assert torch.equal(tensors[f"score_{pool}.bias"], bias)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_the_published_networks_are_recognised_and_have_their_counts(kind: str) -> None:
    make, count = PUBLISHED[kind]
    net = make()
    one = torch.ones(1)  # expanded, so that DeconvNet takes no gigabyte
    layers = tuple(CaffeLayer(name, type_, tuple(one.expand(s) for s in shapes)) for name, type_, shapes in net.weights)
    weights = convert_caffe(CaffeNet("", layers))
    assert weights.network == kind
    assert weights.num_classes == (11 if kind in ("segnet", "segnet_basic") else 21)
    assert sum(tensor.numel() for key, tensor in weights.tensors.items() if ".running_" not in key) == count


@pytest.mark.parametrize(("kind", "form"), BOTH)
def test_each_tensor_is_the_blob_of_its_layer(kind: str, form: files.Form, tmp_path: Path) -> None:
    net = narrow(kind)
    path, arrays = written(net, form, tmp_path)
    tensors = dict(convert_caffe(read_caffemodel(path)).tensors)
    for name, kind_of_layer, shapes in net.weights:
        if name in ("scale_pool4", "scale_pool3"):
            continue
        clean = {"fc8_voc12": "fc8", "seg-score-voc": "seg_score"}.get(name, name.replace("-", "_"))
        for part, array, shape in zip(("weight", "bias"), arrays[name], shapes, strict=False):
            tensor = tensors.pop(f"{clean}.{part}")
            vector = part == "bias" or kind_of_layer == "BN"
            assert tensor.shape == ((array.size,) if vector else shape)
            if (kind, part) != ("fcn8s_atonce", "weight") or name not in ("score_pool4", "score_pool3"):
                assert torch.equal(tensor.flatten(), torch.from_numpy(array).flatten())
    norms = [name.replace("-", "_") for name, kind_of_layer, _ in net.weights if kind_of_layer == "BN"]
    assert tensors.keys() == {f"{name}.{part}" for name in norms for part in ("running_mean", "running_var")}


@pytest.mark.parametrize("kind", ["segnet", "segnet_basic", "deconvnet"])
def test_normalisation_is_exactly_the_scale_and_the_shift(kind: str, tmp_path: Path) -> None:
    net = narrow(kind)
    path, arrays = written(net, "v2", tmp_path)
    tensors = convert_caffe(read_caffemodel(path)).tensors
    for name in (name for name, kind_of_layer, _ in net.weights if kind_of_layer == "BN"):
        scale, shift = (torch.from_numpy(array) for array in arrays[name])
        module = nn.BatchNorm2d(scale.numel()).eval()
        prefix = f"{name.replace('-', '_')}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        x = torch.randn(2, scale.numel(), 3, 5)
        with torch.no_grad():
            torch.testing.assert_close(module(x), x * scale + shift, rtol=1e-6, atol=1e-6)
        assert torch.equal((module.running_var + module.eps).rsqrt(), torch.ones(scale.numel()))


def whole_numbers(weights: CaffeWeights) -> CaffeWeights:
    """Small whole numbers add up without rounding, in any order."""
    return replace(weights, tensors={key: (tensor * 3).round() for key, tensor in weights.tensors.items()})


@pytest.mark.parametrize("kind", PUBLISHED)
def test_rgb_gives_the_very_numbers_of_bgr(kind: str, tmp_path: Path) -> None:
    path, _ = written(narrow(kind), "v2", tmp_path)
    bgr = whole_numbers(convert_caffe(read_caffemodel(path)))
    rgb = to_rgb(bgr)
    first = "conv1" if kind == "segnet_basic" else "conv1_1"
    image = torch.randint(-128, 128, (1, 3, 9, 9)).float()
    assert torch.equal(conv(rgb.tensors, first, image.flip(1)), conv(bgr.tensors, first, image))
    assert rgb.tensors[f"{first}.weight"].ne(bgr.tensors[f"{first}.weight"]).any()
    assert rgb.mean == bgr.mean[::-1]
    assert (bgr.channels, rgb.channels) == ("BGR", "RGB")
    assert all(rgb.tensors[key] is tensor for key, tensor in bgr.tensors.items() if key != f"{first}.weight")
    assert to_rgb(rgb) is rgb


def test_mean_and_std_of_unit_images_are_those_of_bytes(tmp_path: Path) -> None:
    path, _ = written(narrow("fcn8s"), "v2", tmp_path)
    weights = to_rgb(convert_caffe(read_caffemodel(path)))
    assert weights.mean == (122.67892, 116.66877, 104.00699)
    mean, std, subtracted = (
        torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (*weights.unit_mean_std(), weights.mean)
    )
    image = torch.randint(0, 256, (3, 4, 4)).double()
    torch.testing.assert_close((image / 255 - mean) / std, image - subtracted)


def changed(kind: str, change: Callable[[list[CaffeLayer]], object]) -> CaffeNet:
    layers = [
        CaffeLayer(name, type_, tuple(torch.ones(shape) for shape in shapes))
        for name, type_, shapes in narrow(kind).weights
    ]
    change(layers)
    return CaffeNet("VGG", tuple(layers))


def swapped(name: str, *blobs: Tensor) -> Callable[[list[CaffeLayer]], object]:
    def change(layers: list[CaffeLayer]) -> None:
        index = [layer.name for layer in layers].index(name)
        layers[index] = replace(layers[index], blobs=blobs)

    return change


REFUSED: dict[str, tuple[str, Callable[[list[CaffeLayer]], object], list[str]]] = {
    "cut off": ("fcn8s", lambda layers: layers.pop(), ["fcn8s comes nearest", "has no upscore8"]),
    "one too many": (
        "segnet",
        lambda layers: layers.append(CaffeLayer("camvid", "Convolution", (torch.ones(1),))),
        ["segnet comes nearest", "has camvid besides"],
    ),
    "another": (
        "fcn8s",
        lambda layers: layers.__setitem__(slice(None), [CaffeLayer("res2a", "Convolution", (torch.ones(1),))]),
        ["This .caffemodel (VGG) is none", "fcn32s", "deeplab_largefov", "res2a"],
    ),
    "nothing": ("fcn8s", lambda layers: layers.clear(), ["Its layers with weights: none"]),
    "twice": ("fcn8s", lambda layers: layers.append(replace(layers[0])), ["'conv1_1' and 'conv1_1'"]),
    "two heads": (
        "deeplab_largefov",
        lambda layers: layers.append(replace(layers[-1], name="fc8_coco")),
        ["'fc8_voc12' and 'fc8_coco'"],
    ),
    "grouped upsampling": ("fcn32s", swapped("upscore", torch.ones(4, 1, 64, 64)), ["'upscore' gives 1 channels"]),
    "another number of classes": (
        "fcn16s",
        swapped("score_pool4", torch.ones(5, 7, 1, 1), torch.ones(5)),
        ["'score_pool4' gives 5 channels", "'score_fr' gives 4"],
    ),
    "DeepLab with 4 x 4": (
        "deeplab_largefov",
        swapped("fc6", torch.ones(9, 8, 4, 4), torch.ones(9)),
        ["'fc6' are 9 x 8 x 4 x 4", "3 x 3 are right"],
    ),
    "gray": ("fcn32s", swapped("conv1_1", torch.ones(4, 1, 3, 3), torch.ones(4)), ["3 input channels"]),
    "no bias": ("fcn32s", swapped("fc7", torch.ones(9, 9, 1, 1)), ["'fc7' has 1 blobs where 2 are right"]),
    "a bias too long": ("fcn32s", swapped("fc7", torch.ones(9, 9, 1, 1), torch.ones(8)), ["'fc7' has 8 values", "9"]),
    "statistics": ("segnet", swapped("conv1_1_bn", *[torch.ones(4)] * 4), ["'conv1_1_bn' has 4 blobs"]),
    "a flat weight": ("fcn32s", swapped("fc6", torch.ones(9, 392), torch.ones(9)), ["'fc6' are 9 x 392"]),
}


@pytest.mark.parametrize(("kind", "change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_named(kind: str, change: Callable[[list[CaffeLayer]], object], words: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        convert_caffe(changed(kind, change))
    assert all(word in str(caught.value) for word in words), str(caught.value)
