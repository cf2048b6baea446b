from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.apply import Compressed, Prepared, apply, prepare
from compress.cache import ByteCache, TensorDigests
from compress.calibration_pass import CalibrationCache
from compress.plan import LayerBits, Numerics, OperatorChoice, Plan
from examples.digits.data import digits
from tests.workers.conftest import digits_network


def prepared(*, cached: bool) -> Prepared:
    network, structure = digits_network()
    images = torch.from_numpy(digits().heldout_x[:24].astype(np.float32) / 16).reshape(24, 1, 8, 8)
    result = prepare(network, images, structure=structure)
    object.__setattr__(result, "cache", CalibrationCache(enabled=cached))
    return result


WITH, WITHOUT = prepared(cached=True), prepared(cached=False)
LAYERS = [node.name for node in digits_network()[0].graph.nodes if node.op in ("conv", "linear")]
GROUPS = [group.name for group in digits_network()[1].groups.groups]
BLOCKS = [block.name for block in digits_network()[1].blocks]


def uniform(weight_bits: int = 4, **changes: object) -> Plan:
    layers = dict.fromkeys(LAYERS, LayerBits(weight_bits=weight_bits, activation_bits=8))
    return replace(Plan(layers=layers), **changes)  # type: ignore[arg-type]


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def assert_equal(one: Compressed, other: Compressed) -> None:
    assert one.network.graph == other.network.graph
    assert one.network.tensors.keys() == other.network.tensors.keys()
    assert all(same(tensor, other.network.tensors[name]) for name, tensor in one.network.tensors.items())
    assert one.coded.keys() == other.coded.keys()
    for name, weight in one.coded.items():
        codes, expected = weight.codes, other.coded[name].codes
        assert weight.format == other.coded[name].format
        assert same(codes.values, expected.values)
        assert all(same(values, expected.parameters[role]) for role, values in codes.parameters.items())
    assert all(map(same, one.outputs, other.outputs))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    widths = st.builds(LayerBits, weight_bits=st.sampled_from((2, 4, 8)), activation_bits=st.sampled_from((4, 8)))
    changed: Mapping[str, LayerBits] = draw(st.dictionaries(st.sampled_from(LAYERS), widths, max_size=3))
    return uniform(
        layers={**uniform(8).layers, **changed},
        keep_ratios=draw(st.dictionaries(st.sampled_from(GROUPS), st.sampled_from((0.5, 0.75)), max_size=2)),
        operators={
            name: OperatorChoice(operator="skip") for name in draw(st.sets(st.sampled_from(BLOCKS[1:2]), max_size=1))
        },
        repair=draw(st.sampled_from(("none", "channel_statistics"))),
        numerics=Numerics(weight_rounding=draw(st.sampled_from(("nearest", "compensated")))),
    )


@settings(max_examples=8, deadline=None)
@given(plans())
def test_a_candidate_is_the_same_to_the_bit_with_and_without_the_cache(plan: Plan) -> None:
    # The cache goes on from one example to the next: it holds whatever candidates came before.
    assert_equal(apply(WITH, plan), apply(WITHOUT, plan))


def test_a_candidate_is_the_same_to_the_bit_the_third_time() -> None:
    shared, plan = prepared(cached=True), uniform(keep_ratios={GROUPS[0]: 0.5})

    first, second, third = (apply(shared, plan) for _ in range(3))

    assert_equal(first, second)
    assert_equal(first, third)


def test_a_change_in_the_last_layer_runs_no_layer_above_it() -> None:
    shared = prepared(cached=True)
    plan = uniform(8)
    for bits in (8, 6, 4):  # values are kept from the second time on
        apply(shared, replace(plan, layers={**plan.layers, LAYERS[-1]: LayerBits(weight_bits=bits, activation_bits=8)}))
    before = shared.cache.ran

    apply(shared, replace(plan, layers={**plan.layers, LAYERS[-1]: LayerBits(weight_bits=2, activation_bits=8)}))

    assert shared.cache.ran - before == 1


def test_tensors_are_named_by_type_shape_and_values() -> None:
    digests = TensorDigests()
    values = torch.arange(6.0)

    assert digests.of(values) == digests.of(values.clone())
    different = [values.reshape(2, 3), values.double(), values + 1]
    assert len({digests.of(tensor) for tensor in (values, *different)}) == 4


def test_what_was_not_used_for_longest_leaves_a_full_cache() -> None:
    cache: ByteCache[str] = ByteCache(10)
    cache.put("a", "A", 4)
    cache.put("b", "B", 4)
    cache.get("a")

    cache.put("c", "C", 4)

    assert [key in cache for key in "abc"] == [True, False, True]
    assert cache.bytes == 8


@pytest.mark.parametrize("size", [11, 1000])
def test_what_is_larger_than_the_cache_is_not_kept_and_drives_nothing_out(size: int) -> None:
    cache: ByteCache[str] = ByteCache(10)
    cache.put("a", "A", 4)

    cache.put("b", "B", size)

    assert "a" in cache
    assert "b" not in cache
