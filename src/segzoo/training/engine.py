"""From a recipe's [hardware] to Lightning Fabric: one flag from the CPU to GPUs and to machines."""

import logging
from typing import TYPE_CHECKING

import torch

from segzoo.errors import DeviceError
from segzoo.training.extra import extra
from segzoo.training.recipe import HardwarePart

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def launch(hardware: HardwarePart) -> "Fabric":
    """The engine, with its other processes started: what follows runs in each of them.

    Raises:
        TrainingError: the extra "train" is not installed.
        DeviceError: a device that was asked for and cannot be had.
    """
    with extra("Training"):
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    # Its advertisements of its own options; what went wrong is raised.
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
            f"The hardware that the recipe asks for cannot be had: {error} "
            'hardware.accelerator = "auto" and hardware.devices = 1 take what is here.'
        ) from error
    fabric.launch()
    return fabric
