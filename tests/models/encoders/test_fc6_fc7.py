"""fc6 and fc7 from a pretrained VGG, compared with VGG itself."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

import segzoo
from segzoo.models.encoders.fc6_fc7 import fc6_fc7_weights

SIZE = 224  # the deepest map is then 7 x 7, and fc6 at its center has the input of the classifier


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A small VGG with random weights, and the file of its weights."""
    torch.manual_seed(0)
    net = timm.create_model("vgg11", num_classes=1000).eval()
    path = tmp_path_factory.mktemp("vgg") / "vgg11.pth"
    torch.save(net.state_dict(), path)
    return net, path


def fc7_values(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Output of a decoder's fc7 at the center of the deepest map: (N, 4096, 1, 1)."""
    decoder = model.decoder
    deepest = model.encoder(image)[-1]
    values = decoder.fc7(decoder.fc6(deepest)) if hasattr(decoder, "fc7") else decoder.fc_head(deepest)
    return values[..., 3:4, 3:4]


@pytest.mark.parametrize("decoder", ["fcn32s", "deconvnet"])
def test_the_logits_of_the_classifier(decoder: str, vgg: tuple[nn.Module, Path]) -> None:
    net, path = vgg
    model = segzoo.create(decoder, encoder="vgg11", num_classes=5, encoder_weights=path).eval()
    image = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        expected = net(image)
        logits = net.head.fc(fc7_values(model, image).flatten(1))
    # DeconvNet's batch normalization, before training, divides by the square root of 1 + 1e-5.
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=2e-5 * expected.abs().max().item())


def test_deeplab_takes_every_fourth_channel_and_every_third_row(vgg: tuple[nn.Module, Path]) -> None:
    net, path = vgg
    model = segzoo.create("deeplab_largefov", encoder="vgg11", num_classes=5, encoder_weights=path)
    fc1, fc2 = net.pre_logits.fc1, net.pre_logits.fc2
    fc6, fc7 = model.decoder.fc_head.fc6, model.decoder.fc_head.fc7
    assert fc6.weight.shape == (1024, 512, 3, 3)
    for row, column in ((0, 0), (1, 2), (2, 1)):
        assert torch.equal(fc6.weight[5, :, row, column], fc1.weight[20, :, 3 * row, 3 * column])
    assert torch.equal(fc7.weight[7, :, 0, 0], fc2.weight[28, ::4, 0, 0])
    assert torch.equal(fc6.bias, fc1.bias[::4])
    assert torch.equal(fc7.bias, fc2.bias[::4])


def test_torchvisions_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torchvision.models.vgg11(weights=None).eval()
    torch.save(net.state_dict(), tmp_path / "tv.pth")
    weights = fc6_fc7_weights("vgg11", str(tmp_path / "tv.pth"), 512)
    assert weights is not None
    (fc6, bias6), (fc7, bias7) = weights
    x = torch.randn(2, 512, 7, 7)
    ours = nn.functional.conv2d(nn.functional.conv2d(x, fc6, bias6).relu(), fc7, bias7).flatten(1)
    theirs = net.classifier[3](net.classifier[0](x.flatten(1)).relu())
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


def test_a_file_without_a_classifier_warns(vgg: tuple[nn.Module, Path], tmp_path: Path) -> None:
    net, _ = vgg
    torch.save({k: v for k, v in net.state_dict().items() if k.startswith("features.")}, tmp_path / "features.pth")
    with pytest.warns(UserWarning, match=r"fc6 and fc7 of the FCN32s start at random: .* holds no classifier"):
        segzoo.create("fcn32s", "vgg11", 5, encoder_weights=tmp_path / "features.pth", fc_head=(7, 4096))


def test_hidden_layers_of_another_shape_warn(vgg: tuple[nn.Module, Path]) -> None:
    with pytest.warns(UserWarning, match="of another shape"):
        segzoo.create("fcn32s", "vgg11", 5, encoder_weights=vgg[1], fc_head=(3, 16))
