"""Starts Lightning Fabric with the settings in a recipe's [hardware]: CPU, GPUs and several machines."""

import logging
from typing import TYPE_CHECKING

import torch

from segzoo._optional import TRAIN, needs
from segzoo.errors import DeviceError
from segzoo.training.recipe import HardwareConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def launch(hardware: HardwareConfig) -> "Fabric":
    """Starts the other processes, each of which runs the code after this call.

    Raises:
        MissingPackageError: the extra "train" is not installed.
        DeviceError: the requested device is unavailable.
    """
    with needs("Training", TRAIN):
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    # Below this level it advertises its own options; failures are raised.
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    processes = hardware.devices * hardware.nodes
    try:
        fabric = Fabric(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            strategy="ddp" if processes > 1 else "auto",
            precision=_PRECISIONS[hardware.precision],  # type: ignore[arg-type]
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise DeviceError(
            f"The requested hardware is unavailable: {error} "
            'Use hardware.accelerator = "auto" and hardware.devices = 1 for what this machine has.'
        ) from error
    fabric.launch()
    return fabric
