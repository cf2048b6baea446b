from typing import Any

import pytest

from hwmodels.builder import WorkloadBuilder
from hwmodels.errors import InputError
from hwmodels.prepare import fused, without_dead_kernels
from hwmodels.profile import FusionRule
from hwmodels.reference import (
    autoencoder,
    cifar_resnet,
    ds_cnn,
    mobilenet_v1,
    mobilenet_v2,
    reference_network,
    resnet,
    vgg,
)
from hwmodels.tables import cell_edges, from_block_list, from_cell, from_layer_table
from hwmodels.workload import KernelKind, Workload


# Millions of MACs that the papers and the MLPerf Tiny repository publish.
@pytest.mark.parametrize(
    ("network", "macs_m"),
    [
        (mobilenet_v1(), 569),
        (mobilenet_v2(), 300),
        (resnet(18), 1814),
        (resnet(50), 4089),
        (vgg(16), 15470),
        (mobilenet_v1(0.25, 96, 3, 2), 7.489),
        (cifar_resnet(8), 12.5),
        (ds_cnn(), 2.66),
        (autoencoder(), 0.264),
    ],
)
def test_a_published_network_has_the_published_macs(network: Workload, macs_m: float) -> None:
    assert network.macs / 1e6 == pytest.approx(macs_m, rel=3e-3)


def test_an_unknown_network_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="known: autoencoder, cifar_resnet20"):
        reference_network("resnet1")


def test_a_layer_table_becomes_kernels_and_tensors() -> None:
    rows: list[dict[str, Any]] = [
        {
            "op": "Convolution",
            "in_tensors": ["a"],
            "out_tensors": ["b"],
            "in": [3, 8, 8],
            "out": [4, 4, 4],
            "k": [3, 3],
            "stride": 2,
            "groups": 1,
            "weights": 108,
            "macs": 1728,
        },
        {"op": "Pooling", "in_tensors": ["b"], "out_tensors": ["c"], "in": [4, 4, 4], "out": [4, 1, 1]},
        {
            "op": "InnerProduct",
            "in_tensors": ["c"],
            "out_tensors": ["d"],
            "in": [4, 1, 1],
            "out": [10, 1, 1],
            "weights": 40,
            "macs": 40,
        },
    ]

    workload = from_layer_table(rows)

    assert workload.inputs == ("a",)
    assert workload.outputs == ("d",)
    assert [kernel.kind for kernel in workload.kernels] == [KernelKind.CONV, KernelKind.POOL, KernelKind.LINEAR]
    assert workload.macs == 1768
    assert workload.tensors["b"].elements == 64


def test_an_unknown_operator_of_a_table_is_named() -> None:
    row = {"op": "Magic", "in_tensors": ["a"], "out_tensors": ["b"], "in": [1, 1, 1], "out": [1, 1, 1]}

    with pytest.raises(InputError, match=r"unknown operator.*'Magic'"):
        from_layer_table([row])


def test_a_block_list_becomes_inverted_residuals() -> None:
    net = {
        "resolution": 32,
        "first_conv": [3, 8, 3, 2, "relu6"],
        "blocks": [[8, 24, 8, 3, 1, 0, "relu6", 1]],
        "final_expand": None,
        "feature_mix": [8, 16],
        "classifier": [16, 10],
    }

    workload = from_block_list(net)

    # 16×16 pixels: stem 3·8·9, expand 8·24, depthwise 24·9, project 24·8, mix 8·16; classifier 16·10 once.
    assert workload.macs == 256 * (216 + 192 + 216 + 192 + 128) + 160
    assert [kernel.op for kernel in workload.kernels].count("add") == 1


CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|"


def test_a_cell_string_names_its_edges() -> None:
    assert cell_edges(CELL)[:2] == [(0, 1, "nor_conv_3x3"), (0, 2, "none")]
    with pytest.raises(InputError, match="edges into node 2"):
        cell_edges("|a~0|+|a~0|+|a~0|a~1|a~2|")


def test_dead_edges_of_a_cell_cost_nothing() -> None:
    # Only the shortcut reaches the last node: both convolutions are dead.
    empty = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"

    assert from_cell(CELL).macs == from_cell(empty).macs


def test_a_full_cell_adds_what_arrives() -> None:
    full = "|nor_conv_1x1~0|+|nor_conv_1x1~0|nor_conv_1x1~1|+|nor_conv_1x1~0|nor_conv_1x1~1|nor_conv_1x1~2|"

    workload = from_cell(full)

    # Each of 15 cells joins two values once and three values once; two residual blocks add once.
    assert [kernel.op for kernel in workload.kernels].count("add") == 15 * 3 + 2


def branched() -> Workload:
    build = WorkloadBuilder((4, 8, 8))
    x = build.conv(build.input, 4, 3, name="first")
    y = build.conv(x, 4, 3, name="second")
    build.conv(x, 4, 3, name="dead")
    return build.build(build.add(x, y))


def test_kernels_that_nobody_reads_are_dropped() -> None:
    workload = without_dead_kernels(branched())

    assert [kernel.name for kernel in workload.kernels[:2]] == ["first", "second"]
    assert len(workload.kernels) == 3
    assert "dead_out" not in workload.tensors


def test_a_runtime_merges_the_pairs_it_can() -> None:
    workload = fused(without_dead_kernels(branched()), (FusionRule(first="conv", second="add"),))

    assert [kernel.op for kernel in workload.kernels] == ["conv", "conv+add"]
    merged = workload.kernels[1]
    assert merged.inputs == ("first_out", "first_out")
    assert merged.outputs == workload.outputs
    assert "second_out" not in workload.tensors


def test_a_value_with_two_readers_is_not_merged_away() -> None:
    build = WorkloadBuilder((4, 8, 8))
    x = build.conv(build.input, 4, 3)
    workload = build.build(build.elementwise("relu", x), build.elementwise("sigmoid", x))

    assert fused(workload, (FusionRule(first="conv", second="relu"),)) == workload
