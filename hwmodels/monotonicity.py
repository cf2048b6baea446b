"""Whether more work is ever cheaper on a device: fitted predictors may say so, and then the profile tells how often."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

from hwmodels.builder import WorkloadBuilder
from hwmodels.estimate import Pricer
from hwmodels.profile import Profile
from hwmodels.workload import Workload

CHANNELS = (16, 32, 64, 128, 256, 512)
SIZES = (7, 14, 28, 56)
MOST_VALUES = 1 << 20  # of a tensor: beyond are no kernels of vision networks


@dataclass(frozen=True, slots=True, kw_only=True)
class Violations:
    """Steps to twice the channels or pixels, and those that came out cheaper."""

    steps: int
    cheaper: int
    worst_percent: float  # by how much at most

    def text(self) -> str:
        """Return it as a person reads it."""
        if not self.cheaper:
            return f"None of {self.steps} steps to twice the channels or pixels of a kernel is cheaper."
        worst = f"by {self.worst_percent:.0f} % at most"
        return f"{self.cheaper} of {self.steps} steps to twice the channels or pixels of a kernel are cheaper, {worst}."


def violations(profile: Profile, *, bits: int = 32) -> Violations:
    """Return how often a kernel of a grid is cheaper than one of half its channels in or out, height or width."""
    pricer = Pricer(profile)
    ratios = []
    for chain in _chains(bits):
        prices = [pricer.report(workload).latency_ms for workload in chain]
        ratios += [larger / smaller for smaller, larger in pairwise(prices)]
    fallen = [ratio for ratio in ratios if ratio < 1]
    worst = 100 * (1 - min(fallen)) if fallen else 0.0
    return Violations(steps=len(ratios), cheaper=len(fallen), worst_percent=worst)


def _chains(bits: int) -> Iterator[list[Workload]]:
    """Yield lists of one-kernel networks, each larger than the one before in one respect."""
    for kernel, channels in product((1, 3), CHANNELS):
        for size in SIZES:
            yield [_conv(channels, out, size, kernel, bits) for out in CHANNELS]
            yield [_conv(inside, channels, size, kernel, bits) for inside in CHANNELS]
        for out in CHANNELS:
            sizes = [size for size in SIZES if max(channels, out) * size**2 <= MOST_VALUES]
            yield [_conv(channels, out, size, kernel, bits) for size in sizes]
    for size in SIZES:
        yield [_depthwise(channels, size, bits) for channels in CHANNELS]
    for channels in CHANNELS:
        yield [_depthwise(channels, size, bits) for size in SIZES]


def _conv(inside: int, outside: int, size: int, kernel: int, bits: int) -> Workload:
    build = WorkloadBuilder((inside, size, size), weight_bits=bits, activation_bits=bits)
    return build.build(build.conv(build.input, outside, kernel))


def _depthwise(channels: int, size: int, bits: int) -> Workload:
    build = WorkloadBuilder((channels, size, size), weight_bits=bits, activation_bits=bits)
    return build.build(build.depthwise(build.input))
