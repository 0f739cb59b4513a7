"""DeepLab-LargeFOV: parameter counts, and the sizes at which the corners of image and logits coincide."""

import pytest
import torch
import torch.nn.functional as F

import segzoo
from segzoo.models.base import evaluating
from segzoo.models.parameters import count_parameters


@pytest.mark.parametrize("k", [2, 21, 60])
def test_the_number_of_parameters(k: int) -> None:
    with torch.device("meta"):
        model = segzoo.create("paper/deeplab_largefov", num_classes=k)
    assert count_parameters(model) == 14_714_688 + 4_719_616 + 1_049_600 + 1025 * k


@pytest.mark.parametrize(("size", "logits_size"), [(321, 41), (513, 65), (1, 1), (33, 5)])
def test_logits_are_at_one_eighth(size: int, logits_size: int) -> None:
    with torch.device("meta"):
        model = segzoo.create("paper/deeplab_largefov").eval()
        assert model.network(torch.zeros(1, 3, size, 321)).shape == (1, 21, logits_size, 41)


@pytest.mark.usefixtures("narrow_vgg16")
@pytest.mark.parametrize(("height", "width"), [(65, 97), (64, 66), (2, 33)])
def test_other_sizes_are_padded_with_the_mean(height: int, width: int) -> None:
    model = segzoo.create("paper/deeplab_largefov", num_classes=3)
    image = torch.randn(1, 3, height, width) * 100
    padded_height, padded_width = -(height - 1) % 32 + height, -(width - 1) % 32 + width
    padded = torch.zeros(1, 3, padded_height, padded_width)
    padded[:, :, :height, :width] = image
    with evaluating(model), torch.inference_mode():
        logits = model.network(padded)
        assert [8 * (size - 1) + 1 for size in logits.shape[2:]] == [padded_height, padded_width]
        expected = F.interpolate(logits, padded.shape[2:], mode="bilinear", align_corners=True)
        # With aligned corners, every eighth pixel equals one of the logits at 1/8.
        torch.testing.assert_close(expected[..., ::8, ::8], logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(model(image), expected[..., :height, :width])
