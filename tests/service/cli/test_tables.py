import io

import pytest
from rich.console import Console

from hwmodels.profile import builtin_profiles
from service.cli.tables import facts_table


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize("name", sorted(builtin_profiles()))
def test_every_profile_can_be_read_on_a_terminal(name: str, width: int) -> None:
    console = Console(width=width, file=io.StringIO())

    console.print(facts_table(builtin_profiles()[name].to_json()))

    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "clock_ghz" in shown
    assert "datasheet" in shown or "measured" in shown or "recalled" in shown or "estimate" in shown
    assert max(map(len, shown.splitlines())) <= width
