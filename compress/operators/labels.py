"""Operators with parameters, written as one word: ``low_rank``, ``low_rank(rank_ratio=0.25)``, ``low_rank(*)``."""

import re
from itertools import product

from compress.operators.base import OPERATORS
from compress.plan import OperatorChoice, Parameter
from hwmodels.errors import InputError, UnknownNameError

_LABEL = re.compile(r"(?P<name>[^()]+?)\s*(?:\((?P<inside>[^()]*)\))?")


def operator_choice(label: str) -> OperatorChoice:
    """Return the operator and the parameters that a label names; others keep their defaults.

    Raises:
        InputError: The label is none, names no operator, or a parameter or value that the operator does not offer.
    """
    match = _LABEL.fullmatch(label.strip())
    if match is None:
        raise InputError("operators", "must be an operator, or operator(parameter=value, …)", label)
    offered = OPERATORS.get(match["name"]).parameters
    parameters: dict[str, Parameter] = {}
    for part in filter(None, (part.strip() for part in (match["inside"] or "").split(","))):
        key, _, text = (side.strip() for side in part.partition("="))
        if key not in offered:
            known = ", ".join(offered) or "(none)"
            raise UnknownNameError(f"operators.{match['name']}", f"must have parameters among {known}", key)
        values = {str(value): value for value in offered[key]}
        if text not in values:
            raise InputError(f"operators.{match['name']}.{key}", f"must be one of {', '.join(values)}", text)
        parameters[key] = values[text]
    return OperatorChoice(operator=match["name"], parameters=parameters)


def expanded(label: str) -> tuple[str, ...]:
    """Return the labels that one stands for: ``name(*)`` is every combination of the operator's parameters."""
    name, star, rest = label.strip().partition("(*)")
    if not star or rest:
        return (label,)
    offered = OPERATORS.get(name).parameters
    if not offered:
        return (name,)
    rows = product(*offered.values())
    return tuple(
        f"{name}({', '.join(f'{key}={value}' for key, value in zip(offered, row, strict=True))})" for row in rows
    )
