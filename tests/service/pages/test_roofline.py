import pytest

from hwmodels.device_view import Roof
from service.pages.roofline import drawing


@pytest.mark.parametrize("rate", [0.0, float("inf")])
def test_a_rate_that_no_axis_can_hold_is_not_drawn(rate: float) -> None:
    roof = Roof(
        label="",
        peak_gmac_per_s=1.0,
        gb_per_s=1.0,
        ridge_macs_per_byte=1.0,
        macs_per_byte=(0.1, 1000.0),
        gmac_per_s=(1.0, rate),
    )

    assert drawing([roof]) is None
