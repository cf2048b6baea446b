import pytest

from hwmodels.errors import InputError
from hwmodels.measure.rows import measurements, read_rows
from hwmodels.reference import ds_cnn, resnet
from hwmodels.workload import Arithmetic, KernelKind

NETWORKS = {"ds_cnn": ds_cnn(), "resnet18": resnet(18, 96)}


def test_networks_are_read_and_repeats_are_their_median() -> None:
    text = "network,latency_ms,note\nds_cnn,3.0,warm\nds_cnn,1.0,\nds_cnn,2.0,\n,,\nresnet18,40,\n"

    found = measurements(read_rows(text), NETWORKS)

    assert [(m.network, m.latency_ms) for m in found] == [("ds_cnn", 2.0), ("resnet18", 40.0)]


def test_a_kernel_is_a_network_of_one() -> None:
    text = (
        "op,in_channels,out_channels,height,width,kernel,stride,groups,weight_bits,activation_bits,latency_us\n"
        "conv,32,32,28,14,3,2,32,8,8,120\n"
        "linear,512,10,,,,,,,,7.5\n"
    )

    depthwise, linear = measurements(read_rows(text), {})

    (kernel,) = depthwise.workload.kernels
    # 32 channels × 9 weights × 14 × 7 outputs
    assert (kernel.kind, kernel.macs) == (KernelKind.DEPTHWISE, 32 * 9 * 14 * 7)
    assert (kernel.arithmetic, depthwise.latency_ms) == (Arithmetic.INTEGER, 0.12)
    assert (linear.workload.macs, linear.latency_ms) == (5120, 0.0075)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("network,latency\nds_cnn,3.0\n", "columns"),
        ("name,latency_ms\nds_cnn,3.0\n", "columns"),
        ("network,latency_ms\nds_cnm,3.0\n", "line 2, network"),
        ("network,latency_ms\nds_cnn,fast\n", "line 2, latency_ms"),
        ("network,latency_ms\nds_cnn,3\nds_cnn,-1\n", "line 3, latency_ms"),
        ("network,latency_ms\n,3\n", "line 2"),
        ("network,latency_ms\n", "measurements"),
        ("", "columns"),
        ("op,latency_us\nsoftmax,3\n", "line 2, op"),
        ("op,in_channels,out_channels,latency_us\nlinear,10.5,3,1\n", "line 2, in_channels"),
        ("op,in_channels,out_channels,height,width,groups,latency_us\nconv,10,9,7,7,3,1\n", "line 2, groups"),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_its_line(text: str, field: str) -> None:
    with pytest.raises(InputError) as caught:
        measurements(read_rows(text), NETWORKS)

    assert caught.value.field == field
