"""The block as it is."""

from collections.abc import Mapping

from compress.network.blocks import Block
from compress.network.graph import Network
from compress.operators.base import OPERATORS, Replacement
from compress.plan import Parameter


class Original:
    """Leaves the block as it is."""

    parameters: Mapping[str, tuple[Parameter, ...]] = {}
    whole_stages = False

    def fits(self, block: Block, network: Network) -> str | None:
        """Fits every block."""
        return None

    def build(self, block: Block, network: Network, parameters: Mapping[str, Parameter]) -> Replacement:
        """Return the block's own nodes."""
        names = set(block.nodes)
        return Replacement(nodes=tuple(node for node in network.graph.nodes if node.name in names))


OPERATORS.register("original")(Original())
