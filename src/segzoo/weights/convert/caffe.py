"""The original networks' released Caffe weights, as the state dict of the network of `segzoo.models.papers`.

A network is recognised by the names of those of its layers that have weights, all of them and no others; kernels and
channels are checked along the way. A key is Caffe's name of the layer and torch's of the tensor, `conv1_1.weight`, with
`_` for `-`, and without the data set that ends two names (`fc8_voc12` is `fc8`, `seg-score-voc` is `seg_score`).
VGG16's convolutions are `conv1_1` to `conv5_3` throughout, and `fc6` and `fc7` are convolutions too. Besides:

    fcn32s            VGG16, fc6, fc7, score_fr; upscore
    fcn16s            VGG16, fc6, fc7, score_fr, score_pool4; upscore2, upscore16
    fcn8s             VGG16, fc6, fc7, score_fr, score_pool4, score_pool3; upscore2, upscore_pool4, upscore8
    fcn8s_atonce      as fcn8s, and scale_pool4, scale_pool3
    segnet            VGG16, conv5_3_D to conv1_2_D, conv1_1_D; each but the last with its _bn
    segnet_basic      conv1 to conv4, conv_decode4 to conv_decode1, each with its _bn; conv_classifier
    bayesian_segnet_basic  as segnet_basic, with dense_softmax_inner_prod in place of conv_classifier
    deconvnet         VGG16 with bn1_1 to bn5_3, fc6 with bnfc6, fc7 with bnfc7, fc6_deconv with fc6_deconv_bn,
                      deconv5_1 to deconv1_2 with debn5_1 to debn1_2, seg_score
    deeplab_largefov  VGG16, fc6, fc7, fc8

Caffe's layouts are torch's: (out, in, height, width) of a convolution, (in, out, height, width) of a transposed one.
The `upscore` layers are dense and have no bias. What is not copied as it stands:

- A bias, scale or shift of old files, (1, 1, 1, C) or (1, C, 1, 1), becomes (C,).
- Batch normalisation of SegNet and DeconvNet has a scale and a shift, and nothing else: the authors' scripts fold the
  mean and variance of the training set into them (with 1e-9 beside the variance). So `weight` is the scale and `bias`
  the shift, `running_mean` is 0, and `running_var` is 1 - 1e-5, to which BatchNorm2d in evaluation adds its own 1e-5.

Sources: shelhamer/fcn.berkeleyvision.org, alexgkendall/SegNet-Tutorial (compute_bn_statistics.py),
HyeonwooNoh/DeconvNet (BN_make_INFERENCE_script.py), and the prototxt files of DeepLab v1.
"""

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from segzoo.errors import CheckpointError
from segzoo.weights.convert.caffemodel import CaffeLayer, CaffeNet

BN_EPS = 1e-5
"""BatchNorm2d's own, with which `running_var` is made so that scale and shift come out as they are."""


@dataclass(frozen=True)
class CaffeWeights:
    """What a .caffemodel becomes.

    Attributes:
        network: its name in the list above.
        num_classes: channels of the last layer, background among them.
        tensors: float32, by the names of that list. They share memory with the CaffeNet's where nothing changed.
        notes: what to know before the weights are used, in sentences.
    """

    network: str
    num_classes: int
    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Layer:
    """What a layer with weights has to be."""

    name: str
    source: str
    """The layer whose channels it takes; the image where it is empty."""
    kind: Literal["conv", "deconv", "affine", "scale"] = "conv"
    kernel: int = 1
    bias: bool = True
    gives: str = ""
    """The layer whose channels it gives as well; any number where it is empty."""


@dataclass(frozen=True)
class _Network:
    layers: tuple[_Layer, ...]
    head: str
    notes: tuple[str, ...] = ()


def convert_caffe(net: CaffeNet) -> CaffeWeights:
    """The weights of one of the original networks, recognised by the names of its layers.

    Raises:
        CheckpointError: another network, or a layer of another shape; the message names what was found.
    """
    found = _weighted(net)
    name = _recognise(found, net.name)
    network = NETWORKS[name]
    tensors: dict[str, Tensor] = {}
    channels = {"": 3}
    for layer in network.layers:
        converted = _convert(layer, found[layer.name], channels)
        tensors |= {f"{layer.name}.{key}": tensor for key, tensor in converted.items()}
    return CaffeWeights(name, channels[network.head], tensors, network.notes)


def _weighted(net: CaffeNet) -> dict[str, CaffeLayer]:
    """The layers with weights, by clean name."""
    found: dict[str, CaffeLayer] = {}
    for layer in net.layers:
        if layer.blobs:
            first = found.setdefault(_clean(layer.name), layer)
            if first is not layer:
                raise CheckpointError(
                    f"This .caffemodel has the layers {first.name!r} and {layer.name!r}, of which a network has one."
                )
    return found


def _clean(name: str) -> str:
    return re.sub(r"^(fc8|seg-score)[-_].+$", r"\1", name).replace("-", "_")


def _recognise(found: dict[str, CaffeLayer], title: str) -> str:
    wanted = {name: {layer.name for layer in network.layers} for name, network in NETWORKS.items()}
    for name, names in wanted.items():
        if found.keys() == names:
            return name
    near = max(wanted, key=lambda name: len(wanted[name] & found.keys()) / len(wanted[name] | found.keys()))
    told = f"This .caffemodel{f' ({title})' if title else ''}"
    if not wanted[near] & found.keys():
        raise CheckpointError(
            f"{told} is none of the networks that segzoo converts ({', '.join(NETWORKS)}). "
            f"Its layers with weights: {_some(found)}."
        )
    missing = [layer.name for layer in NETWORKS[near].layers if layer.name not in found]
    foreign = [name for name in found if name not in wanted[near]]
    differs = [
        *([f"has no {_some(missing)}"] if missing else []),
        *([f"has {_some(foreign)} besides"] if foreign else []),
    ]
    raise CheckpointError(
        f"{told} is none of the networks that segzoo converts. {near} comes nearest, but the file "
        f"{' and '.join(differs)}. Use the authors' own file; convert_caffe knows {', '.join(NETWORKS)}."
    )


def _some(names: dict[str, CaffeLayer] | list[str]) -> str:
    names = list(names)
    rest = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return (", ".join(names[:12]) or "none") + rest


def _convert(layer: _Layer, found: CaffeLayer, channels: dict[str, int]) -> dict[str, Tensor]:
    """Its tensors by torch's names, after a look at each shape; notes its output channels in `channels`."""
    blobs = [blob.to(torch.float32) for blob in found.blobs]
    expected = 1 + (layer.bias and layer.kind != "scale")
    if len(blobs) != expected:
        raise CheckpointError(f"Layer {found.name!r} has {len(blobs)} blobs where {expected} are right.")
    weight, *rest = blobs
    width = channels[layer.source]
    if layer.kind in ("affine", "scale"):
        channels[layer.name] = width
        names = ("weight", "bias")[:expected]
        tensors = {name: _vector(found, blob, width) for name, blob in zip(names, blobs, strict=True)}
        if layer.kind == "affine":
            tensors["running_mean"] = torch.zeros(width)
            tensors["running_var"] = torch.full((width,), 1 - BN_EPS)
        return tensors
    inputs, outputs = (1, 0) if layer.kind == "conv" else (0, 1)
    kernel = (layer.kernel, layer.kernel)
    if weight.ndim != 4 or weight.shape[inputs] != width or weight.shape[2:] != kernel:
        shape = " x ".join(map(str, weight.shape))
        raise CheckpointError(
            f"The weights of layer {found.name!r} are {shape}, and {width} input channels and a kernel of "
            f"{layer.kernel} x {layer.kernel} are right: this is a variant that segzoo does not convert."
        )
    channels[layer.name] = weight.shape[outputs]
    if layer.gives and channels[layer.name] != channels[layer.gives]:
        raise CheckpointError(
            f"Layer {found.name!r} gives {channels[layer.name]} channels, and {layer.gives!r} gives "
            f"{channels[layer.gives]}: both are the number of classes."
        )
    return {"weight": weight, **({"bias": _vector(found, rest[0], channels[layer.name])} if rest else {})}


def _vector(found: CaffeLayer, blob: Tensor, width: int) -> Tensor:
    if blob.numel() != width:
        raise CheckpointError(f"Layer {found.name!r} has {blob.numel()} values where {width} are right, one a channel.")
    return blob.flatten()


_VGG16 = tuple(f"{stage}_{conv}" for stage, depth in enumerate((2, 2, 3, 3, 3), 1) for conv in range(1, depth + 1))
"""The numbers of its 13 convolutions: 1_1, 1_2, 2_1, ..."""


def _vgg16() -> list[_Layer]:
    names = [f"conv{number}" for number in _VGG16]
    return [_Layer(name, source, kernel=3) for name, source in zip(names, ["", *names[:-1]], strict=True)]


def _fcn(skips: dict[str, str], upscores: dict[str, int], scaled: bool = False) -> _Network:
    """`skips`: pool and the convolution before it; `upscores`: name and kernel."""
    layers = [*_vgg16(), _Layer("fc6", "conv5_3", kernel=7), _Layer("fc7", "fc6"), _Layer("score_fr", "fc7")]
    for pool, before in skips.items():
        layers += [_Layer(f"scale_{pool}", before, "scale")] if scaled else []
        layers.append(_Layer(f"score_{pool}", before, gives="score_fr"))
    for name, kernel in upscores.items():
        layers.append(_Layer(name, "score_fr", "deconv", kernel, bias=False, gives="score_fr"))
    return _Network(tuple(layers), "score_fr")


_SEGNET = "Licence of the released weights: CC BY-NC 4.0."
_DECONVNET = "Licence of the released weights: for research only."
_FOLDED = (
    "Batch normalisation is taken as the authors' test files have it, with the statistics folded into scale and shift. "
    "A training snapshot looks the same and gives wrong maps.",
    "Train on with the normalisation frozen: in training mode BatchNorm2d would normalise by the batch as well.",
)


def _segnet() -> _Network:
    names, before = [f"conv{number}" for number in _VGG16], ""
    layers: list[_Layer] = []
    for name in [*names, *(f"{name}_D" for name in names[:0:-1])]:
        layers += [_Layer(name, before, kernel=3), _Layer(f"{name}_bn", name, "affine")]
        before = name
    layers.append(_Layer("conv1_1_D", before, kernel=3))
    return _Network(tuple(layers), "conv1_1_D", (_SEGNET, *_FOLDED))


def _segnet_basic(last: str = "conv_classifier") -> _Network:
    layers: list[_Layer] = []
    before = ""
    for name in [*(f"conv{n}" for n in (1, 2, 3, 4)), *(f"conv_decode{n}" for n in (4, 3, 2, 1))]:
        layers += [_Layer(name, before, kernel=7), _Layer(f"{name}_bn", name, "affine")]
        before = name
    layers.append(_Layer(last, before))
    return _Network(tuple(layers), last, (_SEGNET, *_FOLDED))


def _deconvnet() -> _Network:
    layers: list[_Layer] = []
    before = ""
    # Its stages mirror VGG's, but number their layers upwards: deconv5_1, 5_2, 5_3, 4_1, ...
    mirrored = [number for stage in "54321" for number in _VGG16 if number[0] == stage]
    for name, norm, kernel in (
        *((f"conv{n}", f"bn{n}", 3) for n in _VGG16),
        ("fc6", "bnfc6", 7),
        ("fc7", "bnfc7", 1),
        ("fc6_deconv", "fc6_deconv_bn", 7),
        *((f"deconv{n}", f"debn{n}", 3) for n in mirrored),
    ):
        layers += [_Layer(name, before, "deconv" if "deconv" in name else "conv", kernel), _Layer(norm, name, "affine")]
        before = name
    layers.append(_Layer("seg_score", before))
    return _Network(tuple(layers), "seg_score", (_DECONVNET, *_FOLDED))


def _deeplab_largefov() -> _Network:
    layers = (*_vgg16(), _Layer("fc6", "conv5_3", kernel=3), _Layer("fc7", "fc6"), _Layer("fc8", "fc7"))
    return _Network(layers, "fc8")


_SKIPS = {"pool4": "conv4_3", "pool3": "conv3_3"}
_UPSCORES = {"upscore2": 4, "upscore_pool4": 4, "upscore8": 16}
NETWORKS = {
    "fcn32s": _fcn({}, {"upscore": 64}),
    "fcn16s": _fcn({"pool4": "conv4_3"}, {"upscore2": 4, "upscore16": 32}),
    "fcn8s": _fcn(_SKIPS, _UPSCORES),
    "fcn8s_atonce": _fcn(_SKIPS, _UPSCORES, scaled=True),
    "segnet": _segnet(),
    "segnet_basic": _segnet_basic(),
    "bayesian_segnet_basic": _segnet_basic("dense_softmax_inner_prod"),
    "deconvnet": _deconvnet(),
    "deeplab_largefov": _deeplab_largefov(),
}
"""What each network's layers have to be."""
