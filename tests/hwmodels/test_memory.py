import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmodels.memory import peak_memory_bytes
from hwmodels.profile import Memory
from hwmodels.quantity import Quantity
from hwmodels.workload import Kernel, KernelKind, TensorInfo, Workload
from tests.hwmodels.networks import conv_chain, residual_block


def quantity(value: float) -> Quantity:
    return Quantity(value=value, confidence="estimate", source="test")


def peak(workload: Workload, memory: Memory) -> int:
    return peak_memory_bytes(
        workload, memory, tensor_bytes={name: info.bytes for name, info in workload.tensors.items()}
    )


def test_the_peak_of_a_chain_is_its_largest_pair() -> None:
    # 4×4 pixels: tensors of 2, 6, 4 and 1 channels are 32, 96, 64 and 16 bytes; 96 + 64 is the largest pair.
    assert peak(conv_chain((2, 6, 4, 1), size=4), Memory()) == 160


def test_a_shortcut_lives_until_it_is_added() -> None:
    # Input, the convolution's output and the sum, 64 bytes each: a kernel with two inputs gets a place for its output.
    assert peak(residual_block(), Memory()) == 3 * 64


@pytest.mark.parametrize(
    ("kind", "op", "expected"),
    [
        (KernelKind.ELEMENTWISE, "hardswish", 64),
        (KernelKind.DATA_MOVEMENT, "reshape", 64),
        (KernelKind.DATA_MOVEMENT, "permute", 128),
        (KernelKind.DATA_MOVEMENT, "pixel_shuffle", 128),
        (KernelKind.DATA_MOVEMENT, "shuffle", 128),
        (KernelKind.POOL, "max_pool", 128),
    ],
)
def test_only_what_leaves_values_in_their_place_overwrites_its_input(kind: KernelKind, op: str, expected: int) -> None:
    # 4 channels of 4×4 pixels are 64 bytes, in and out.
    tensors = {name: TensorInfo(shape=(4, 4, 4), bits=8) for name in ("x", "y")}
    kernel = Kernel(name="k", kind=kind, op=op, inputs=("x",), outputs=("y",), in_channels=4, out_channels=4)

    assert peak(Workload(kernels=(kernel,), tensors=tensors, inputs=("x",), outputs=("y",)), Memory()) == expected


def test_scratch_counts_the_im2col_columns() -> None:
    # 3 channels × 3×3 window × 2 columns × 2 bytes = 108 bytes, beside 48 in and 16 out.
    assert peak(conv_chain((3, 1), size=4), Memory(im2col_columns=quantity(2))) == 48 + 16 + 108


def test_an_overlapping_runtime_keeps_a_window_of_input_rows() -> None:
    # 16 rows of 16 pixels: 256 bytes in, 256 out; all but seven rows (112 bytes) are shared.
    memory = Memory(rule="overlapping", overlap_rows=quantity(7))

    assert peak(conv_chain((1, 1), size=16), memory) == 256 + 112


def test_the_factor_and_the_runtime_come_on_top() -> None:
    memory = Memory(scratch_factor=quantity(1.5), runtime_ram_kib=quantity(2))

    assert peak(conv_chain((1, 1), size=4), memory) == 32 * 1.5 + 2048


@pytest.mark.parametrize("rule", ["overlapping", "in_place_depthwise"])
@given(st.lists(st.integers(1, 32), min_size=2, max_size=5), st.integers(1, 20))
def test_no_rule_needs_more_than_the_plain_one(rule: str, channels: list[int], size: int) -> None:
    workload = conv_chain(tuple(channels), size=size)
    memory = Memory.model_validate({"rule": rule, "overlap_rows": quantity(7)})

    assert peak(workload, memory) <= peak(workload, Memory())
