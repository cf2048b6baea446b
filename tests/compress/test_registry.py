import sys
from pathlib import Path

import pytest

from compress.registry import DuplicateNameError, Registry
from hwmodels.errors import UnknownNameError


def test_a_registered_member_is_found_under_its_name() -> None:
    registry: Registry[int] = Registry("number")

    registry.register("two")(2)

    assert registry.get("two") == 2
    assert registry.names() == ("two",)
    assert "two" in registry
    assert "three" not in registry


def test_a_second_registration_of_a_name_is_an_error() -> None:
    registry: Registry[int] = Registry("number")
    registry.register("two")(2)

    with pytest.raises(DuplicateNameError, match="two"):
        registry.register("two")(22)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    registry: Registry[int] = Registry("number")
    registry.register("two")(2)
    registry.register("one")(1)

    with pytest.raises(UnknownNameError, match=r"number: must be one of one, two, got 'three'"):
        registry.get("three")


def test_entry_points_of_installed_packages_are_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "third_party_numbers.py").write_text("SEVEN = 7\n")
    info = tmp_path / "third_party_numbers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party-numbers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tightfit.test_numbers]\nseven = third_party_numbers:SEVEN\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[int] = Registry("number", group="tightfit.test_numbers")

    assert registry.get("seven") == 7

    sys.modules.pop("third_party_numbers", None)
