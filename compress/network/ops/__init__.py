"""The closed list of operators that a network consists of.

Every node of a graph names one of ``OPS``. The importer translates to them, the builder makes torch modules of them,
the receiver's check holds a graph against them, and pricing asks them for kernel kinds and multiply-accumulates.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from compress.network.graph import Attribute, Node
from compress.network.ops import elementwise, movement, normalisation, pooling, products, weighted
from compress.network.ops.spec import Op, Role, Rule
from hwmodels.errors import UnknownNameError

__all__ = ["OPS", "Op", "Role", "Rule", "make_node", "op_named", "run_node"]

OPS: Mapping[str, Op] = MappingProxyType(
    {op.name: op for module in (weighted, normalisation, elementwise, pooling, movement, products) for op in module.OPS}
)


def op_named(name: str) -> Op:
    """Return the operator called ``name``."""
    if name not in OPS:
        raise UnknownNameError("op", f"must be one of {', '.join(sorted(OPS))}", name)
    return OPS[name]


def make_node(
    name: str,
    op: str,
    inputs: Sequence[str],
    outputs: Sequence[str] = (),
    *,
    parameters: Mapping[str, str] | None = None,
    **attributes: Attribute,
) -> Node:
    """Return a node with every attribute spelled out; without ``outputs`` it writes one value, named as the node."""
    return Node(
        name=name,
        op=op,
        inputs=tuple(inputs),
        outputs=tuple(outputs) or (name,),
        attributes=op_named(op).complete(attributes),
        parameters=dict(parameters or {}),
    )


def run_node(node: Node, values: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute a node's outputs by name; ``values`` are activations, ``tensors`` parameters and constants."""
    inputs = [values[name] if name in values else tensors[name] for name in node.inputs]
    parameters = {role: tensors[name] for role, name in node.parameters.items()}
    result = OPS[node.op].run(*inputs, **parameters, **node.attributes)
    results = result if isinstance(result, tuple) else (result,)
    return dict(zip(node.outputs, results, strict=True))
