import pytest

from hwmodels.device_view import device_view
from hwmodels.profile import FIGURES, NOT_VALIDATED, builtin_profiles

PROFILES = builtin_profiles()


def test_a_roof_is_the_lesser_of_bandwidth_and_peak() -> None:
    (roof, *_) = device_view(PROFILES["raspberry-pi-4"]).roofs

    for intensity, rate in zip(roof.macs_per_byte, roof.gmac_per_s, strict=True):
        assert rate == pytest.approx(min(roof.peak_gmac_per_s, intensity * roof.gb_per_s), rel=1e-3)
    assert roof.ridge_macs_per_byte == pytest.approx(roof.peak_gmac_per_s / roof.gb_per_s, rel=1e-3)


def test_bit_fusion_has_a_roof_for_each_width_and_each_halving_is_four_times_as_fast() -> None:
    peaks = [roof.peak_gmac_per_s for roof in device_view(PROFILES["bitfusion-45nm"]).roofs]

    assert peaks[1] == pytest.approx(4 * peaks[0], rel=1e-3)
    assert peaks[2] == pytest.approx(16 * peaks[0], rel=1e-3)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_figure_says_its_error_or_that_nobody_measured_it(name: str) -> None:
    profile = PROFILES[name]

    rows = device_view(profile).validation

    assert {row.figure for row in rows} == set(FIGURES)
    for row in rows:
        measured = any(entry.figure == row.figure for entry in profile.validation)
        if row.figure != "model_bytes":
            assert (row.expected_error == NOT_VALIDATED) != measured
            assert (row.mape_percent is None) != measured
