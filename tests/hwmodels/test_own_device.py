import pytest

from hwmodels.builder import with_bits
from hwmodels.calibrate import Measurement
from hwmodels.errors import InputError
from hwmodels.estimate import estimate
from hwmodels.own_device import fit_own_device
from hwmodels.profile import NOT_VALIDATED, Profile, builtin_profiles
from hwmodels.reference import cifar_resnet, ds_cnn, fd_mobilenet, mobilenet_v1, mobilenet_v2, resnet

BASE = builtin_profiles()["raspberry-pi-4"]
NETWORKS = {
    "mobilenet_v1": mobilenet_v1(0.5, 96),
    "mobilenet_v2": mobilenet_v2(0.35, 96),
    "fd_mobilenet": fd_mobilenet(0.25, 128),
    "cifar_resnet8": cifar_resnet(8),
    "resnet18": resnet(18, 96),
    "ds_cnn": ds_cnn(),
}


def measured(profile: Profile, *, bits: int, slower: float, count: int = 6) -> list[Measurement]:
    """Return six networks on a board that is ``slower`` than a profile in everything."""
    found = []
    for name, network in list(NETWORKS.items())[:count]:
        load = with_bits(network, weight_bits=bits, activation_bits=bits)
        latency_ms = slower * estimate(load, profile).latency_ms
        found.append(Measurement(network=f"{name} {bits}", workload=load, latency_ms=latency_ms))
    return found


def test_six_networks_of_a_board_twice_as_slow_make_a_profile_twice_as_slow() -> None:
    rows = measured(BASE, bits=32, slower=2.0)

    own = fit_own_device(BASE, rows, name="my-board", source="own bench")

    unseen = resnet(34, 96)
    ratio = estimate(unseen, own.profile).latency_ms / estimate(unseen, BASE).latency_ms
    assert ratio == pytest.approx(2.0, rel=0.1)
    assert own.profile.name == "my-board"
    assert "6 float networks" in own.profile.expected_error("latency_ms", "float")
    assert own.profile.expected_error("latency_ms", "integer") == NOT_VALIDATED


def test_float_and_integer_networks_are_fitted_one_after_the_other() -> None:
    rows = measured(BASE, bits=32, slower=2.0) + measured(BASE, bits=8, slower=2.0)

    own = fit_own_device(BASE, rows, name="my-board", source="own bench")

    assert [(part.applies_to, part.measurements) for part in own.parts] == [("float", 6), ("integer", 6)]
    errors = {part.applies_to: part.fit.left_out.mape_percent for part in own.parts if part.fit}
    assert errors["float"] < 10
    assert errors["integer"] < 20


def test_a_kind_of_too_few_networks_is_left_as_it_was() -> None:
    rows = measured(BASE, bits=32, slower=2.0) + measured(BASE, bits=8, slower=2.0, count=2)

    own = fit_own_device(BASE, rows, name="my-board", source="own bench")

    assert [part.fit is None for part in own.parts] == [False, True]


def test_too_few_networks_of_every_kind_are_refused() -> None:
    with pytest.raises(InputError, match=r"at least 3 networks of one kind, got .2 float, 0 integer"):
        fit_own_device(BASE, measured(BASE, bits=32, slower=1.0, count=2), name="my-board", source="own bench")


def test_a_family_without_knobs_is_refused_by_name() -> None:
    base = builtin_profiles()["bitfusion-45nm"]

    with pytest.raises(InputError, match="roofline or microcontroller"):
        fit_own_device(base, measured(BASE, bits=32, slower=1.0), name="my-board", source="own bench")
