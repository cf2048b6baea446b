"""Stages: residual units in a row that all write values of one shape."""

from collections.abc import Sequence

from compress.network.blocks import Block
from compress.network.graph import Network

LEAST_UNITS = 3
"""A base, an end, and something between them."""

STAGE = "stage"


def stages(network: Network, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the stages of at least three units, in execution order; each overlaps the blocks that it consists of.

    All units but the first keep the shape of what they read. A stage is called after its first and last unit; its
    ``joint`` is that of the first.
    """
    found: list[Block] = []
    run: list[Block] = []
    for block in (*blocks, None):
        if block is not None and run and block.identity_shortcut and block.entry == run[-1].exit:
            run.append(block)
            continue
        if len(run) >= LEAST_UNITS:
            found.append(_stage(network, run))
        run = [block] if block is not None and block.residual else []
    return tuple(found)


def units(stage: Block, blocks: Sequence[Block]) -> list[Block]:
    """Return the residual units that a stage consists of."""
    inside = set(stage.nodes)
    return [block for block in blocks if inside.issuperset(block.nodes)]


def _stage(network: Network, run: Sequence[Block]) -> Block:
    names = {name for block in run for name in block.nodes}
    return Block(
        name=f"{run[0].name}..{run[-1].name}",
        kind=STAGE,
        entry=run[0].entry,
        exit=run[-1].exit,
        nodes=tuple(node.name for node in network.graph.nodes if node.name in names),
        joint=run[0].joint,
        shortcut="",
    )
