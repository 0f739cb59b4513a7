"""The contact sheet shows the original images next to augmented versions."""

from collections.abc import Callable

import numpy as np
import pytest

from segzoo.data.augment import Augmentation
from segzoo.data.dataset import SegmentationData
from segzoo.data.preview import contact_sheet
from segzoo.errors import OptionError
from segzoo.visualize import overlay

Make = Callable[..., SegmentationData]
NOISE = Augmentation([{"name": "noise", "sigma": [0.2, 0.2], "p": 1.0}], 255)


def test_the_first_column_is_not_augmented(make_data: Make) -> None:
    data = make_data(3)
    sheet = np.asarray(contact_sheet(data, NOISE, rows=2, columns=2, width=16))
    mask = np.where(data[0].mask == 255, -1, data[0].mask.astype(int))
    expected = np.asarray(overlay(data[0].image, mask, data.classes, legend=False))
    # The last row and column may have an outline, because another picture follows.
    np.testing.assert_array_equal(sheet[:11, :15], expected[:11, :15])
    assert not np.array_equal(sheet[:11, 22:37], expected[:11, :15])


def test_every_picture_of_a_row_differs_and_a_seed_repeats_them(make_data: Make) -> None:
    data = make_data(1)
    first, again = (contact_sheet(data, NOISE, columns=3, width=16, seed=seed) for seed in (1, 1))
    other = contact_sheet(data, NOISE, columns=3, width=16, seed=2)
    assert first.tobytes() == again.tobytes() != other.tobytes()
    sheet = np.asarray(first)
    assert not np.array_equal(sheet[:11, 22:37], sheet[:11, 44:59])


def test_there_are_no_more_rows_than_images(make_data: Make) -> None:
    few, many = make_data(2), make_data(9)
    sheets = [contact_sheet(data, NOISE, rows=6, width=160) for data in (few, many)]
    assert sheets[0].height < sheets[1].height / 2


def test_pictures_of_any_shape_fit(make_data: Make) -> None:
    tall = Augmentation([{"name": "crop", "height": 70, "width": 5}], 255)
    wide = Augmentation([{"name": "crop", "height": 1, "width": 300}], 255)
    for augment in (tall, wide):
        assert contact_sheet(make_data(2), augment, width=40).width > 4 * 40


@pytest.mark.parametrize("numbers", [{"rows": 0}, {"columns": 1}, {"width": 3}])
def test_a_sheet_needs_rows_and_columns(make_data: Make, numbers: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="at least 1 row, 2 columns and a width of 8 pixels"):
        contact_sheet(make_data(1), NOISE, **numbers)
