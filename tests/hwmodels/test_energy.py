import pytest

from hwmodels.energy import EnergyModel, int_add_pj, int_mul_pj, mac_pj, node_factor, sram_read_pj_per_bit
from hwmodels.profile import EnergyTerms, MacEnergy
from hwmodels.quantity import Quantity
from hwmodels.workload import Arithmetic


def quantity(value: float) -> Quantity:
    return Quantity(value=value, confidence="estimate", source="test")


# Horowitz, ISSCC 2014, 45 nm: additions of 8, 16, 32 bits; the paper rounds 0.025 to 0.03.
@pytest.mark.parametrize(("bits", "picojoule", "places"), [(8, 0.03, 2), (16, 0.05, 2), (32, 0.1, 6)])
def test_integer_addition_costs_what_the_table_says(bits: int, picojoule: float, places: int) -> None:
    assert int_add_pj(bits) == pytest.approx(picojoule, abs=0.51 * 10**-places)


@pytest.mark.parametrize(("bits", "picojoule"), [(8, 0.2), (32, 3.1)])
def test_integer_multiplication_costs_what_the_table_says(bits: int, picojoule: float) -> None:
    assert int_mul_pj(bits, bits) == pytest.approx(picojoule, rel=1e-8)


@pytest.mark.parametrize(("bits", "picojoule"), [(16, 1.1 + 0.4), (32, 3.7 + 0.9)])
def test_a_float_mac_is_the_tables_product_and_sum(bits: int, picojoule: float) -> None:
    assert mac_pj(Arithmetic.FLOAT, bits, bits) == pytest.approx(picojoule)


# 10, 20 and 100 pJ per 64-bit access.
@pytest.mark.parametrize(("kib", "picojoule"), [(8, 10 / 64), (32, 20 / 64), (1024, 100 / 64)])
def test_reading_an_sram_costs_what_the_table_says(kib: int, picojoule: float) -> None:
    assert sram_read_pj_per_bit(kib * 1024 * 8) == pytest.approx(picojoule, rel=2e-3)


def test_an_int8_mac_includes_a_32_bit_accumulation() -> None:
    assert mac_pj(Arithmetic.INTEGER, 8, 8) == pytest.approx(0.2 + 0.1)


@pytest.mark.parametrize("arithmetic", [Arithmetic.SHIFT, Arithmetic.ADD, Arithmetic.BINARY])
def test_arithmetic_without_a_multiplier_costs_less_than_a_product(arithmetic: Arithmetic) -> None:
    assert mac_pj(arithmetic, 8, 8) < mac_pj(Arithmetic.INTEGER, 8, 8)


def test_the_node_factor_meets_its_table_and_falls_with_the_node() -> None:
    assert node_factor(45) == pytest.approx(1.0)
    assert node_factor(16) == pytest.approx(0.51)
    factors = [node_factor(node) for node in (5, 6, 7, 10, 14, 22, 28, 40, 55, 65)]
    assert factors == sorted(factors)


@pytest.mark.parametrize("node", [3, 90])
def test_a_node_beyond_the_table_is_refused(node: float) -> None:
    with pytest.raises(ValueError, match="node_nm"):
        node_factor(node)


def test_power_times_time_is_in_millijoule() -> None:
    model = EnergyModel(EnergyTerms(static_w=quantity(2), active_w=quantity(3)))

    # 5 W for 1 ms are 5 mJ.
    assert model.kernel_mj(mac_pj=0, sram_bits=0, dram_bits=0, latency_us=1000, roof_us=0) == pytest.approx(5.0)


def test_active_power_may_follow_the_roof() -> None:
    model = EnergyModel(EnergyTerms(static_w=quantity(2), active_w=quantity(3), active_follows="roof"))

    assert model.kernel_mj(mac_pj=0, sram_bits=0, dram_bits=0, latency_us=1000, roof_us=500) == pytest.approx(3.5)


def test_traffic_and_macs_are_in_millijoule() -> None:
    terms = EnergyTerms(
        mac=MacEnergy(node_nm=quantity(45)), dram_pj_per_bit=quantity(20), sram_pj_per_bit=quantity(0.5)
    )
    model = EnergyModel(terms)

    assert model.mac_pj(Arithmetic.INTEGER, 8, 8) == pytest.approx(0.3)
    # 1e9 pJ of MACs + 1e8 bits × 20 pJ + 2e9 bits × 0.5 pJ = 1 + 2 + 1 mJ.
    energy = model.kernel_mj(mac_pj=1e9, sram_bits=2e9, dram_bits=1e8, latency_us=1, roof_us=1)
    assert energy == pytest.approx(4.0)
