"""The table of ONNX operators that are known, and how a rule enters it."""

from collections.abc import Callable
from typing import TypeAlias

from compress.network.onnx_import.translation import Source, Translation

TranslationRule: TypeAlias = Callable[[Source, Translation], None]
"""Writes the nodes for one ONNX node, or raises ``UnsupportedFormError``."""

RULES: dict[str, TranslationRule] = {}


def translates(*operators: str) -> Callable[[TranslationRule], TranslationRule]:
    """Return a decorator that enters a rule for ``operators``."""

    def enter(rule: TranslationRule) -> TranslationRule:
        for operator in operators:
            if operator in RULES:
                raise ValueError(f"operator {operator!r} has a rule already")
            RULES[operator] = rule
        return rule

    return enter
