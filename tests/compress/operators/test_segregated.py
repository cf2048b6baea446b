from dataclasses import replace
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.network.graph import Network
from compress.network.ops import run_node
from compress.operators import OPERATORS
from compress.operators.segregated import phases
from compress.plan import OperatorChoice, Plan
from compress.runner import run
from compress.structure import analyse, restructure
from compress.workload import workload
from hwmodels.estimate import estimate
from hwmodels.profile import builtin_profiles
from tests.compress.networks import Builder, images

SEGREGATED = OPERATORS.get("segregated")


def _network(
    *,
    kernel: tuple[int, int] = (4, 4),
    stride: tuple[int, int] = (2, 2),
    padding: tuple[int, int] = (1, 1),
    output_padding: tuple[int, int] = (0, 0),
    size: tuple[int, int] = (5, 6),
    depthwise: bool = False,
    bias: bool = True,
    seed: int = 0,
) -> Network:
    """A transposed convolution alone: from 3 channels to 4, or 3 to 3 one by one."""
    net = Builder(3, *size, seed=seed)
    groups, outer = (3, 3) if depthwise else (1, 4)
    parameters = {"weight": net.tensor("up.weight", 3, outer // groups, *kernel)}
    if bias:
        parameters["bias"] = net.tensor("up.bias", outer)
    options = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": (1, 1)}
    value = net.node("up", "conv_transpose", ("x",), (), parameters, {**options, "groups": groups})
    network = net.network(value)
    return replace(network, tensors={name: tensor.double() for name, tensor in network.tensors.items()})


def _changed(network: Network) -> Network:
    plan = Plan(operators={"up": OperatorChoice(operator="segregated")})
    return restructure(network, plan, structure=analyse(network))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), depthwise=st.booleans(), bias=st.booleans())
def test_segregating_changes_no_output(data: st.DataObject, depthwise: bool, bias: bool) -> None:
    stride = (data.draw(st.integers(1, 4)), data.draw(st.integers(2, 4)))
    kernel = tuple(data.draw(st.integers(least, 7)) for least in stride)
    padding = tuple(data.draw(st.integers(0, k - 1)) for k in kernel)
    output_padding = tuple(data.draw(st.integers(0, s - 1)) for s in stride)
    size = tuple(data.draw(st.integers(max(1, p), 7)) for p in padding)
    sizes = zip(size, stride, padding, kernel, output_padding, strict=True)
    if any((n - 1) * s - 2 * p + k + o < 1 for n, s, p, k, o in sizes):
        return
    network = _network(
        kernel=kernel,  # type: ignore[arg-type]
        stride=stride,
        padding=padding,  # type: ignore[arg-type]
        output_padding=output_padding,  # type: ignore[arg-type]
        size=size,  # type: ignore[arg-type]
        depthwise=depthwise,
        bias=bias,
    )

    changed = _changed(network)

    assert "conv_transpose" not in {node.op for node in changed.graph.nodes}
    x = images(network).double()
    torch.testing.assert_close(run(changed, x)[0], run(network, x)[0], rtol=1e-10, atol=1e-10)


def test_integers_come_out_the_same_to_the_last_bit() -> None:
    network = _network(kernel=(3, 5), padding=(1, 2), output_padding=(1, 1))
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randint(-128, 128, tensor.shape, generator=generator).double()
        for name, tensor in network.tensors.items()
    }
    network = replace(network, tensors=tensors)
    x = torch.randint(-128, 128, (2, 3, 5, 6), generator=generator).double()

    assert torch.equal(run(_changed(network), x)[0], run(network, x)[0])


@given(st.integers(1, 7), st.integers(1, 4), st.data())
def test_every_tap_is_in_one_phase(kernel: int, stride: int, data: st.DataObject) -> None:
    padding = data.draw(st.integers(0, kernel - 1))
    out = 5 * stride - 2 * padding + kernel
    if out < stride:
        return

    found = phases(kernel, stride, padding, 6, out)

    assert sum(phase.taps for phase in found) == kernel
    assert sorted(phase.residue for phase in found) == list(range(stride))
    assert sum(phase.count for phase in found) == out


def test_a_kernel_of_four_with_stride_two_takes_a_quarter_of_the_multiplications_of_zero_insertion() -> None:
    network = _network(size=(8, 8))  # to 16 x 16

    spread_with_zeros = 16 * 16 * 4 * 4 * 3 * 4  # output places, taps, channels

    assert workload(_changed(network), Plan()).macs * 4 == spread_with_zeros


def test_a_kernel_of_three_has_four_one_two_and_two_taps() -> None:
    network = _network(kernel=(3, 3), output_padding=(1, 1), size=(8, 8))

    shapes = sorted(tuple(t.shape[2:]) for name, t in _changed(network).tensors.items() if name.endswith("weight"))

    assert shapes == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert sum(map(prod, shapes)) == 9


def test_gradients_are_those_of_the_transposed_convolution() -> None:
    network = _network(kernel=(3, 3), output_padding=(1, 0))
    weight = network.tensors["up.weight"].clone().requires_grad_()
    network = replace(network, tensors={**network.tensors, "up.weight": weight})
    x = images(network).double().requires_grad_()

    def gradients(form: Network) -> tuple[Tensor, ...]:
        values = {"x": x}
        for node in form.graph.nodes:
            values.update(run_node(node, values, form.tensors))
        (result,) = (values[name] for name in form.graph.outputs)
        return torch.autograd.grad(result.square().sum(), (x, weight))

    for found, expected in zip(gradients(_changed(network)), gradients(network), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kernel": (2, 2), "stride": (3, 3), "padding": (0, 0)}, "smaller than its stride"),
        ({"stride": (1, 1)}, "no transposed convolution"),
    ],
)
def test_what_does_not_fit_says_why(options: dict[str, tuple[int, int]], reason: str) -> None:
    network = _network(**options)  # type: ignore[arg-type]
    structure = analyse(network)
    if not structure.blocks:
        assert reason == "no transposed convolution"  # with stride 1 it is not even listed
        return

    assert reason in str(SEGREGATED.fits(structure.blocks[0], network))


def _decoder() -> Network:
    net = Builder(3, 5, 5)
    first = net.op("relu1", "relu", net.conv("conv1", "x", (3, 8)))
    up = net.norm("bn", net.conv("up", first, (8, 6), stride=2, transpose=True), 6)
    return net.network(net.head(net.op("relu2", "relu", up), 6))


def test_it_composes_with_cut_channels() -> None:
    network = _decoder()
    structure = analyse(network)
    ratios = {group.name: 0.5 for group in structure.groups.groups}
    operators = {"up": OperatorChoice(operator="segregated")}

    plain = restructure(network, Plan(keep_ratios=ratios), structure=structure)
    both = restructure(network, Plan(keep_ratios=ratios, operators=operators), structure=structure)

    x = images(network)
    torch.testing.assert_close(run(both, x)[0], run(plain, x)[0], rtol=1e-5, atol=1e-5)
    assert {name: t.shape[0] for name, t in both.tensors.items() if "phase" in name and "weight" in name} == {
        f"up/phase_{row}_{column}.weight": 3 for row in (0, 1) for column in (0, 1)
    }


@pytest.mark.parametrize("device", ["raspberry-pi-4", "stm32h743", "x86-avx2"])
def test_either_form_has_a_price(device: str) -> None:
    network = _decoder().to_meta()
    structure = analyse(network)
    profile = builtin_profiles()[device]

    prices = [
        estimate(workload(restructure(network, plan, structure=structure), plan), profile).latency_ms
        for plan in (Plan(), Plan(operators={"up": OperatorChoice(operator="segregated")}))
    ]

    assert min(prices) > 0
    assert prices[0] != prices[1]
