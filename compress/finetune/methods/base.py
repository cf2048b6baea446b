"""What every fine-tuning method offers: trainable grids for weights and activations that end on deployable ones."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from compress.network.graph import Attribute, Node
from compress.plan import Numerics
from compress.registry import Registry
from compress.weights import CodedWeight

PARAMETER_RATE = 0.1
"""Learning rate of a grid's own parameters relative to the weights'."""


class WeightGrid(nn.Module, ABC):
    """A weight in training, output channels first. ``grid_parameters`` name what learns at ``PARAMETER_RATE``."""

    grid_parameters: tuple[str, ...] = ()

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the weight on its grid, with gradients for what is learned."""

    @abstractmethod
    def coded(self) -> CodedWeight:
        """Return what will be stored: decoded, it is what ``forward`` returns."""


class ActivationGrid(nn.Module, ABC):
    """A ``quantize`` node in training."""

    grid_parameters: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` on the grid, with gradients for it and for what is learned."""

    @abstractmethod
    def attributes(self) -> dict[str, Attribute]:
        """Return the attributes of the node that does the same when deployed."""

    def penalty(self) -> Tensor | None:
        """Return what the method adds to the loss, ``None`` for nothing."""
        return None


class Method(ABC):
    """How weights and activations are rounded in training. Stateless; registered by name in ``METHODS``.

    Whatever it learns must end as codes of the plan's own quantizers and as ``quantize`` nodes: fine-tuning changes
    values, never what is stored or how it runs.
    """

    @abstractmethod
    def weight(self, values: Tensor, coded: CodedWeight, numerics: Numerics) -> WeightGrid:
        """Return a grid for a weight.

        Args:
            values: The float weight to start from, output channels first.
            coded: What post-training quantization made of it.
            numerics: The plan's.
        """

    @abstractmethod
    def activation(self, node: Node, numerics: Numerics) -> ActivationGrid:
        """Return a grid for a ``quantize`` node, starting from the node's own."""


METHODS: Registry[type[Method]] = Registry("finetune.method", group="tightfit.finetuning")
