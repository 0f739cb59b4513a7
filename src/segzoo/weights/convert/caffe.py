"""Converts the original networks' released Caffe weights to a state_dict of the network in `segzoo.models.papers`.

A network is recognized by the names of its layers with weights, which must match exactly; kernels and channels are
checked as well. A key consists of Caffe's name of the layer and PyTorch's name of the tensor, such as `conv1_1.weight`,
with `-` replaced by `_` and without the data set at the end of two names (`fc8_voc12` becomes `fc8`, `seg-score-voc`
becomes `seg_score`). Below, VGG16 stands for the convolutions `conv1_1` to `conv5_3`; `fc6` and `fc7` are convolutions
too:

    fcn32s            VGG16, fc6, fc7, score_fr; upscore
    fcn16s            VGG16, fc6, fc7, score_fr, score_pool4; upscore2, upscore16
    fcn8s             VGG16, fc6, fc7, score_fr, score_pool4, score_pool3; upscore2, upscore_pool4, upscore8
    fcn8s_atonce      as fcn8s, plus scale_pool4, scale_pool3
    segnet            VGG16, conv5_3_D to conv1_2_D, conv1_1_D; each but the last with its _bn
    segnet_basic      conv1 to conv4, conv_decode4 to conv_decode1, each with its _bn; conv_classifier
    bayesian_segnet_basic  as segnet_basic, with dense_softmax_inner_prod in place of conv_classifier
    deconvnet         VGG16 with bn1_1 to bn5_3, fc6 with bnfc6, fc7 with bnfc7, fc6_deconv with fc6_deconv_bn,
                      deconv5_1 to deconv1_2 with debn5_1 to debn1_2, seg_score
    deeplab_largefov  VGG16, fc6, fc7, fc8

Caffe's layouts are the same as PyTorch's: (out, in, height, width) for a convolution, (in, out, height, width) for a
transposed one. The `upscore` layers are dense (not grouped) and have no bias. Two things change:

- A bias, scale or shift of shape (1, 1, 1, C) or (1, C, 1, 1) in old files becomes (C,).
- Batch normalization in SegNet and DeconvNet has only a scale and a shift: the authors' scripts fold the mean and the
  variance of the training set into them (adding 1e-9 to the variance). So `weight` is the scale, `bias` is the shift,
  `running_mean` is 0, and `running_var` is 1 - 1e-5, to which BatchNorm2d adds its own 1e-5 in evaluation mode.

Sources: shelhamer/fcn.berkeleyvision.org, alexgkendall/SegNet-Tutorial (compute_bn_statistics.py),
HyeonwooNoh/DeconvNet (BN_make_INFERENCE_script.py), and the prototxt files of DeepLab v1.
"""

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from segzoo.errors import CheckpointError, quoted, shown, some
from segzoo.weights.convert.caffemodel import CaffeLayer, CaffeNet

BN_EPS = 1e-5
"""BatchNorm2d's default eps. `running_var` is 1 minus this, so that only scale and shift take effect."""


@dataclass(frozen=True)
class CaffeWeights:
    """The converted content of a .caffemodel.

    Attributes:
        network: name of the network in the list above.
        num_classes: channels of the last layer, including the background.
        tensors: float32, with keys as described above. Unchanged tensors share memory with those of the CaffeNet.
        notes: sentences to read before using the weights.
    """

    network: str
    num_classes: int
    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Layer:
    """The expected properties of a layer with weights."""

    name: str
    input: str
    """The layer whose output channels are this one's input channels; empty for the image."""
    kind: Literal["conv", "deconv", "affine", "scale"] = "conv"
    kernel: int = 1
    bias: bool = True
    outputs_as: str = ""
    """The layer with the same number of output channels; empty if any number is allowed."""


@dataclass(frozen=True)
class _Network:
    layers: tuple[_Layer, ...]
    head: str
    notes: tuple[str, ...] = ()


def convert_caffe(net: CaffeNet) -> CaffeWeights:
    """Converts the weights of one of the original networks, recognized by the names of its layers.

    Raises:
        CheckpointError: it is another network, or a layer has another shape. The message names the difference.
    """
    caffe_layers = _layers_with_weights(net)
    name = _recognize(caffe_layers, net.name)
    network = NETWORKS[name]
    tensors: dict[str, Tensor] = {}
    channels = {"": 3}
    for layer in network.layers:
        converted = _convert(layer, caffe_layers[layer.name], channels)
        tensors |= {f"{layer.name}.{key}": tensor for key, tensor in converted.items()}
    return CaffeWeights(name, channels[network.head], tensors, network.notes)


def _layers_with_weights(net: CaffeNet) -> dict[str, CaffeLayer]:
    """The layers with weights, by normalized name."""
    layers: dict[str, CaffeLayer] = {}
    for layer in net.layers:
        if layer.blobs:
            first = layers.setdefault(_normalized(layer.name), layer)
            if first is not layer:
                raise CheckpointError(
                    f"This .caffemodel has both {quoted(first.name)} and {quoted(layer.name)}; a network has "
                    "only one of them."
                )
    return layers


def _normalized(name: str) -> str:
    return re.sub(r"^(fc8|seg-score)[-_].+$", r"\1", name).replace("-", "_")


def _recognize(layers: dict[str, CaffeLayer], title: str) -> str:
    expected = {name: {layer.name for layer in network.layers} for name, network in NETWORKS.items()}
    for name, names in expected.items():
        if layers.keys() == names:
            return name
    closest = max(expected, key=lambda name: len(expected[name] & layers.keys()) / len(expected[name] | layers.keys()))
    subject = f"This .caffemodel{f' ({shown(title)})' if title else ''}"
    if not expected[closest] & layers.keys():
        raise CheckpointError(
            f"{subject} is none of the networks that segzoo converts ({', '.join(NETWORKS)}). "
            f"Its layers with weights: {some(list(layers), 12) or 'none'}."
        )
    missing = [layer.name for layer in NETWORKS[closest].layers if layer.name not in layers]
    extra = [name for name in layers if name not in expected[closest]]
    differences = [
        *([f"lacks {some(missing, 12)}"] if missing else []),
        *([f"also has {some(extra, 12)}"] if extra else []),
    ]
    raise CheckpointError(
        f"{subject} is none of the networks that segzoo converts. {closest} is the closest, but the file "
        f"{' and '.join(differences)}. Use the authors' own file; convert_caffe supports {', '.join(NETWORKS)}."
    )


def _convert(layer: _Layer, caffe_layer: CaffeLayer, channels: dict[str, int]) -> dict[str, Tensor]:
    """The layer's tensors by PyTorch's names, with shapes checked; adds its output channels to `channels`."""
    name = quoted(caffe_layer.name)
    blobs = [blob.to(torch.float32) for blob in caffe_layer.blobs]
    expected = 1 + (layer.bias and layer.kind != "scale")
    if len(blobs) != expected:
        raise CheckpointError(f"Layer {name} has {len(blobs)} blobs; segzoo converts {expected}.")
    weight, *rest = blobs
    in_channels = channels[layer.input]
    if layer.kind in ("affine", "scale"):
        channels[layer.name] = in_channels
        names = ("weight", "bias")[:expected]
        tensors = {key: _vector(caffe_layer, blob, in_channels) for key, blob in zip(names, blobs, strict=True)}
        if layer.kind == "affine":
            tensors["running_mean"] = torch.zeros(in_channels)
            tensors["running_var"] = torch.full((in_channels,), 1 - BN_EPS)
        return tensors
    in_axis, out_axis = (1, 0) if layer.kind == "conv" else (0, 1)
    kernel = (layer.kernel, layer.kernel)
    if weight.ndim != 4 or weight.shape[in_axis] != in_channels or weight.shape[2:] != kernel:
        shape = " x ".join(map(str, weight.shape))
        raise CheckpointError(
            f"The weights of layer {name} are {shape} instead of {in_channels} input channels and a "
            f"{layer.kernel} x {layer.kernel} kernel. segzoo does not convert this variant."
        )
    channels[layer.name] = weight.shape[out_axis]
    if layer.outputs_as and channels[layer.name] != channels[layer.outputs_as]:
        raise CheckpointError(
            f"Layer {name} has {channels[layer.name]} output channels and {layer.outputs_as!r} has "
            f"{channels[layer.outputs_as]}, but both must equal the number of classes."
        )
    return {"weight": weight, **({"bias": _vector(caffe_layer, rest[0], channels[layer.name])} if rest else {})}


def _vector(caffe_layer: CaffeLayer, blob: Tensor, length: int) -> Tensor:
    if blob.numel() != length:
        name = quoted(caffe_layer.name)
        raise CheckpointError(f"Layer {name} has {blob.numel()} values, not {length}, one per channel.")
    return blob.flatten()


_VGG16 = tuple(f"{stage}_{conv}" for stage, depth in enumerate((2, 2, 3, 3, 3), 1) for conv in range(1, depth + 1))
"""The numbers of VGG16's 13 convolutions: 1_1, 1_2, 2_1, ..."""


def _vgg16() -> list[_Layer]:
    names = [f"conv{number}" for number in _VGG16]
    return [_Layer(name, before, kernel=3) for name, before in zip(names, ["", *names[:-1]], strict=True)]


def _fcn(skips: dict[str, str], upscores: dict[str, int], scaled: bool = False) -> _Network:
    """`skips`: name of a pooling layer -> the convolution before it; `upscores`: name of a layer -> kernel size."""
    layers = [*_vgg16(), _Layer("fc6", "conv5_3", kernel=7), _Layer("fc7", "fc6"), _Layer("score_fr", "fc7")]
    for pool, before in skips.items():
        layers += [_Layer(f"scale_{pool}", before, "scale")] if scaled else []
        layers.append(_Layer(f"score_{pool}", before, outputs_as="score_fr"))
    for name, kernel in upscores.items():
        layers.append(_Layer(name, "score_fr", "deconv", kernel, bias=False, outputs_as="score_fr"))
    return _Network(tuple(layers), "score_fr")


_SEGNET = "License of the released weights: CC BY-NC 4.0."
_DECONVNET = "License of the released weights: for research only."
_FOLDED = (
    "Batch normalization is read as in the authors' test files, with the statistics folded into scale and shift. "
    "A training snapshot looks the same but gives wrong results.",
    "Freeze the normalization in further training: in training mode, BatchNorm2d would also normalize by the batch.",
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
    # The stages mirror VGG's, but layers are numbered upward within a stage: deconv5_1, 5_2, 5_3, 4_1, ...
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
"""The expected layers of each network."""
