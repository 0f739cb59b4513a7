"""The errors of segzoo: one base, and near names offered."""

import pytest

from segzoo import errors

NAMES = ("resnet18", "resnet101", "vgg16", "vgg16_bn")


@pytest.mark.parametrize(
    "name",
    [
        "UnknownNameError",
        "PairingError",
        "ImageError",
        "DataError",
        "CheckpointError",
        "DownloadError",
        "ExportError",
        "TrainingError",
    ],
)
def test_one_except_catches_them_all(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.SegzooError)


@pytest.mark.parametrize("kind", [errors.UnknownNameError, errors.PairingError, errors.ImageError, errors.DataError])
def test_wrong_arguments_are_value_errors_too(kind: type[Exception]) -> None:
    assert issubclass(kind, ValueError)


def test_a_missing_device_is_no_value_error() -> None:
    assert issubclass(errors.DeviceError, errors.SegzooError)
    assert not issubclass(errors.DeviceError, ValueError)


@pytest.mark.parametrize(("wrong", "right"), [("resnet1O1", "resnet101"), ("VGG16", "vgg16"), ("vgg16bn", "vgg16_bn")])
def test_near_names_are_offered(wrong: str, right: str) -> None:
    message = str(errors.unknown("encoder", wrong, NAMES, "See there."))
    assert message.startswith(f"Unknown encoder {wrong!r}. Did you mean '")
    assert repr(right) in message
    assert message.endswith("? See there.")


def test_a_name_near_to_none_offers_none() -> None:
    assert str(errors.unknown("encoder", "qqq", NAMES, "See there.")) == "Unknown encoder 'qqq'. See there."
