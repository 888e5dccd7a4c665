"""What a call sees of the devices that were lent to it: variables of its process, and of what that starts. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..errors import DevicesHidden

# For AMD's the first is enough for most programs; who reads both wants them alike. ROCR_VISIBLE_DEVICES stays as it is:
# the others count among what it leaves.
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
GPU_ORDER = "CUDA_DEVICE_ORDER"


def environment(devices: Mapping[str, Sequence[int]], own: Mapping[str, str]) -> dict[str, str]:
    """Return what shows a call its *devices* and no others, in a worker whose *own* environment this is.

    Raises `DevicesHidden` for one that the worker itself does not see.
    """
    shown: dict[str, str] = {}
    for kind, places in devices.items():
        shown[f"DCENGINE_DEVICES_{re.sub('[^A-Z0-9]', '_', kind.upper())}"] = ",".join(map(str, places))
        if kind == "gpu":
            shown.update(_gpus(places, own))
    return shown


def _gpus(places: Sequence[int], own: Mapping[str, str]) -> dict[str, str]:
    given = {variable: own[variable] for variable in GPU_VARIABLES if variable in own}
    if not given:
        # Places are counted as nvidia-smi counts them, which without this is not how CUDA does.
        return {GPU_ORDER: own.get(GPU_ORDER, "PCI_BUS_ID"), **dict.fromkeys(GPU_VARIABLES, ",".join(map(str, places)))}
    first = next(iter(given))
    return {
        variable: ",".join(_among(places, variable, given.get(variable, given[first]))) for variable in GPU_VARIABLES
    }


def _among(places: Sequence[int], variable: str, shown: str) -> list[str]:
    names = [name.strip() for name in shown.split(",") if name.strip()]
    for place in places:
        if place >= len(names):
            raise DevicesHidden("gpu", place, variable, shown)
    return [names[place] for place in places]
