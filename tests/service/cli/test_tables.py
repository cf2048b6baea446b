import io

import pytest
from rich.console import Console, RenderableType

from hwmodels.device_view import device_view
from hwmodels.profile import builtin_profiles
from service.api.schemas import RoofRead, ValidationRead
from service.cli.tables import facts_table, roofs_table, validation_table

PI = builtin_profiles()["raspberry-pi-4"]


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("name", sorted(builtin_profiles()))
def test_every_profile_can_be_read_on_a_terminal(name: str, width: int) -> None:
    console = Console(width=width, file=io.StringIO())

    console.print(facts_table(builtin_profiles()[name].to_json()))

    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "clock_ghz" in shown
    assert "datasheet" in shown or "measured" in shown or "recalled" in shown or "estimate" in shown
    assert max(map(len, shown.splitlines())) <= width


def shown(table: RenderableType) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_validation_prints_the_error_or_that_nobody_measured() -> None:
    rows = [ValidationRead.model_validate(row) for row in device_view(PI).to_json()["validation"]]

    text = shown(validation_table(rows))

    assert "not validated by measurement" in text
    assert "exact for weights, biases and scales" in text
    assert "±" in text


def test_roofs_print_where_memory_stops_to_be_the_limit() -> None:
    roofs = [RoofRead.model_validate(roof) for roof in device_view(PI).to_json()["roofs"]]

    text = shown(roofs_table(roofs))

    assert f"{roofs[0].ridge_macs_per_byte:g}" in text
    assert "32×32-bit float" in text
