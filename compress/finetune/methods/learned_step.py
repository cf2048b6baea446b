"""LSQ and LSQ+: steps, and with the latter offsets, learned together with the weights."""

from torch import Tensor

from compress.finetune.methods.base import METHODS, ActivationGrid, Method, WeightGrid
from compress.finetune.methods.grids import SteppedWeight, StraightThroughWeight, UniformActivation
from compress.finetune.rounding import INSIDE
from compress.network.graph import Node
from compress.plan import Numerics
from compress.weights import CodedWeight


@METHODS.register("lsq")
class LearnedStep(Method):
    """Learn every step by the gradient that its rounding errors and clipped values give.

    ``dq/ds`` is ``round(x/s) - x/s`` inside the grid and its end outside; zero points stay. Two things differ from
    the paper: steps start from post-training quantization instead of ``2·mean|x|/√high``, and are learned on the
    logarithmic axis by Adam, which makes the paper's factor on their gradient without effect. Weights of quantizers
    other than ``uniform`` have no step to learn and are trained straight through.

    Source: Esser et al. 2020, arXiv:1902.08153, equations 1-3.
    """

    learns_zero = False

    def weight(self, values: Tensor, coded: CodedWeight, numerics: Numerics) -> WeightGrid:
        """Return a grid with one learned step per scale of the plan's quantizer."""
        if not SteppedWeight.fits(coded, numerics):
            return StraightThroughWeight(values, coded, numerics)
        return SteppedWeight(values, coded, numerics, learns=INSIDE)

    def activation(self, node: Node, numerics: Numerics) -> ActivationGrid:
        """Return a grid with a learned step."""
        return UniformActivation(node, numerics, learns=INSIDE, learns_zero=self.learns_zero)


@METHODS.register("lsq_plus")
class LearnedStepAndOffset(LearnedStep):
    """LSQ whose activations learn an offset, too, where their grid does not begin at zero.

    The offset is the zero point: it stays a whole number of steps, because padding and integer kernels need an exact
    zero; the paper's is any real number.

    Source: Bhalgat et al. 2020, arXiv:2004.09576, equations 5-8.
    """

    learns_zero = True
