"""What the documentation says of networks is what the importer does."""

import re
from pathlib import Path

import pytest

from compress.network.check import GraphError
from compress.network.onnx_import import errors
from compress.network.onnx_import.rules import RULES
from compress.network.ops.shapes import ShapeError
from compress.network.zoo import ARCHITECTURES
from hwmodels.errors import InputError

PAGE = Path(__file__).parents[4] / "docs" / "networks.md"


@pytest.fixture
def sections() -> dict[str, str]:
    parts = re.split(r"^## (.*)\n", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_known_operator_is_listed(sections: dict[str, str]) -> None:
    listed = sections["Operators"].split("\n\n")[0]

    assert re.findall(r"`(\w+)`", listed) == sorted(RULES)


def test_every_code_of_a_refusal_is_listed(sections: dict[str, str]) -> None:
    kinds: list[type[InputError]] = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, InputError)
    ]
    kinds += [GraphError, ShapeError]
    codes = {kind.code for kind in kinds} - {InputError.code}

    assert set(re.findall(r"^\| `(\w+)`", sections["Why a file is refused"], flags=re.MULTILINE)) == codes


def test_every_architecture_is_listed(sections: dict[str, str]) -> None:
    assert set(ARCHITECTURES) <= set(re.findall(r"`(\w+)`", sections["Named architectures"]))
