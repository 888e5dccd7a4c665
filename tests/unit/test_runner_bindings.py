"""What a call sees of its devices."""

from __future__ import annotations

import pytest

from dcengine.errors import DevicesHidden
from dcengine.runner.bindings import environment


def test_a_call_sees_its_gpus_and_no_others() -> None:
    shown = environment({"gpu": [0, 2]}, {})

    assert shown["CUDA_VISIBLE_DEVICES"] == shown["HIP_VISIBLE_DEVICES"] == "0,2"
    assert shown["DCENGINE_DEVICES_GPU"] == "0,2"
    assert shown["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.parametrize(
    ("own", "places", "seen"),
    [
        ("2,3", [1], "3"),
        (" 2 , 3 ", [0, 1], "2,3"),
        ("GPU-8a6b,MIG-77c1", [1], "MIG-77c1"),
    ],
)
def test_places_are_counted_among_what_the_worker_itself_sees(own: str, places: list[int], seen: str) -> None:
    shown = environment({"gpu": places}, {"CUDA_VISIBLE_DEVICES": own})

    assert shown["CUDA_VISIBLE_DEVICES"] == shown["HIP_VISIBLE_DEVICES"] == seen
    assert "CUDA_DEVICE_ORDER" not in shown  # whoever has chosen devices has counted in some order


def test_each_of_the_two_variables_counts_by_itself() -> None:
    shown = environment({"gpu": [1]}, {"CUDA_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "4,5"})

    assert (shown["CUDA_VISIBLE_DEVICES"], shown["HIP_VISIBLE_DEVICES"]) == ("1", "5")


@pytest.mark.parametrize("own", ["", "7"])
def test_a_device_that_the_worker_does_not_see_is_an_error_and_no_other_device(own: str) -> None:
    with pytest.raises(DevicesHidden, match=rf"gpu number 1, .*CUDA_VISIBLE_DEVICES='{own}'"):
        environment({"gpu": [1]}, {"CUDA_VISIBLE_DEVICES": own})


def test_any_kind_of_device_has_a_variable_of_its_own() -> None:
    assert environment({"license.maya-24": [1]}, {}) == {"DCENGINE_DEVICES_LICENSE_MAYA_24": "1"}
    assert environment({}, {}) == {}
