"""Why a network cannot be taken in, one class and one code per reason."""

from collections.abc import Iterable, Sequence

from hwmodels.errors import InputError

FIELD = "model"


class NotOnnxError(InputError):
    """The bytes are no ONNX model, or one that contradicts itself."""

    code = "not_onnx"


class ModelTooLargeError(InputError):
    """A bound on bytes, nodes or tensors is exceeded."""

    code = "model_too_large"


class ExternalDataError(InputError):
    """Tensors lie in another file that was not handed in, or lies elsewhere than beside the model."""

    code = "external_data"


class NestedGraphError(InputError):
    """The network has branches or loops that are decided while it runs."""

    code = "nested_graph"


class RecurrentNetworkError(InputError):
    """The network keeps a state from step to step."""

    code = "recurrent_network"


class AlreadyQuantizedError(InputError):
    """The network's numbers are integers already; there is no float network to start from."""

    code = "already_quantized"


class PrecisionError(InputError):
    """Weights or inputs are not 32-bit floating point."""

    code = "unsupported_precision"


class InterfaceError(InputError):
    """Several inputs or outputs, or an input that is no batch of fixed-size arrays."""

    code = "unsupported_interface"


class FixedBatchError(InputError):
    """The network mixes the images of a batch, or only works for the batch that it was exported with."""

    code = "fixed_batch"


class UnsupportedFormError(InputError):
    """A known operator is used in a way that is not supported; the field names the node."""

    code = "unsupported_form"


class UnsupportedOperatorError(InputError):
    """Operators that are not on the list; all of the file's at once.

    Args:
        unknown: Pairs of operator and node name, in the file's order.
        known: Names of the operators that are supported.
    """

    code = "unsupported_operator"

    def __init__(self, unknown: Iterable[tuple[str, str]], known: Iterable[str]) -> None:
        self.unknown: Sequence[tuple[str, str]] = tuple(unknown)
        self.known: Sequence[str] = tuple(sorted(known))
        super().__init__(FIELD, f"uses {_listed(self.unknown)}; known operators: {', '.join(self.known)}")

    def __reduce__(self) -> tuple[type[InputError], tuple[object, ...]]:  # type: ignore[override]
        """Rebuild from both lists, so that the error crosses process borders."""
        return type(self), (self.unknown, self.known)


def _listed(unknown: Sequence[tuple[str, str]]) -> str:
    """Name every operator once, with its first node and how many more there are."""
    nodes: dict[str, list[str]] = {}
    for op, node in unknown:
        nodes.setdefault(op, []).append(node)
    parts = []
    for op, names in nodes.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        parts.append(f"the unknown operator {op!r} (node {names[0]!r}{more})")
    return ", ".join(parts)
