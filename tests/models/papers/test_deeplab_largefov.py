"""DeepLab-LargeFOV: counts, and the grid on which image and scores fall together."""

import pytest
import torch
import torch.nn.functional as F

import segzoo
from segzoo.models.base import evaluating
from segzoo.models.create import count


@pytest.mark.parametrize("k", [2, 21, 60])
def test_parameters_of_any_number_of_classes(k: int) -> None:
    with torch.device("meta"):
        model = segzoo.create("paper/deeplab_largefov", num_classes=k)
    assert count(model) == 14_714_688 + 4_719_616 + 1_049_600 + 1025 * k


@pytest.mark.parametrize(("image", "scores"), [(321, 41), (513, 65), (1, 1), (33, 5)])
def test_scores_are_an_eighth_of_the_papers_sizes(image: int, scores: int) -> None:
    with torch.device("meta"):
        model = segzoo.create("paper/deeplab_largefov").eval()
        assert model.network(torch.zeros(1, 3, image, 321)).shape == (1, 21, scores, 41)


@pytest.mark.usefixtures("narrow_vgg16")
@pytest.mark.parametrize(("height", "width"), [(65, 97), (64, 66), (2, 33)])
def test_other_sizes_are_padded_with_the_mean(height: int, width: int) -> None:
    model = segzoo.create("paper/deeplab_largefov", num_classes=3)
    image = torch.randn(1, 3, height, width) * 100
    rows, columns = -(height - 1) % 32 + height, -(width - 1) % 32 + width
    whole = torch.zeros(1, 3, rows, columns)
    whole[:, :, :height, :width] = image
    with evaluating(model), torch.inference_mode():
        scores = model.network(whole)
        assert [8 * (size - 1) + 1 for size in scores.shape[2:]] == [rows, columns]
        expected = F.interpolate(scores, (rows, columns), mode="bilinear", align_corners=True)
        # Corners fall together: every eighth pixel is a score as it stands.
        torch.testing.assert_close(expected[..., ::8, ::8], scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(model(image), expected[..., :height, :width])
