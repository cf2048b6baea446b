"""Run a built network node by node, and let callers see and change every value on the way.

One pass over the calibration images can so repair a layer, hand the repaired values on, and observe their range,
instead of a pass for each of these.

``build.build_module`` leaves the network's ``Node`` in ``meta["node"]`` of every ``torch.fx`` node that computes one,
and the name of a graph input in ``meta["value"]`` of its placeholder.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from compress.network.graph import Node

ValueHook = Callable[[str, Node | None, Tensor], Tensor]
"""Called with a value's name, the node that wrote it (``None`` for a graph input) and the value; returns the value
that later nodes read: the same tensor, or another one of the same shape."""


@torch.no_grad()
def run(module: fx.GraphModule, images: Tensor, *hooks: ValueHook) -> Any:
    """Return the module's output for ``images``, passing every value through the hooks in order.

    Values are freed after their last reader, so the peak is that of a plain forward pass.
    """
    return _Runner(module, hooks).run(images)


class _Runner(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, hooks: tuple[ValueHook, ...]) -> None:
        super().__init__(module)
        self._hooks = hooks

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "placeholder":
            return self._pass(str(n.meta.get("value", n.target)), None, result)
        node = n.meta.get("node")
        if not isinstance(node, Node):
            return result  # a constant, an element of a tuple, or the output
        if isinstance(result, (tuple, list)):
            return tuple(self._pass(name, node, value) for name, value in zip(node.outputs, result, strict=True))
        return self._pass(node.outputs[0], node, result)

    def _pass(self, name: str, node: Node | None, value: Tensor) -> Tensor:
        for hook in self._hooks:
            value = hook(name, node, value)
        return value
