"""Networks that must not be taken in: each is one small, wrong step away from a good one."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.service.api.uploads import ONNX, WEIGHTS

Change = Callable[[ModelProto], None]


def network(change: Change = lambda model: None) -> bytes:
    """Return a small good network after one change."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="pool"),
        helper.make_node("Flatten", ["c"], ["d"], name="flatten"),
        helper.make_node("Gemm", ["d", "h"], ["y"], name="head", transB=1),
    ]
    weights = [
        numpy_helper.from_array(rng.normal(size=(8, 3, 3, 3)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.normal(size=(10, 8)).astype(np.float32), "h"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    change(model)
    data: bytes = model.SerializeToString()
    return data


def inserted(*nodes: NodeProto) -> Change:
    """Put nodes between ``b`` (batch, 8, 8, 8) and the pool, which then reads ``z``."""

    def change(model: ModelProto) -> None:
        rest = list(model.graph.node)
        rest[2].input[0] = "z"
        del model.graph.node[:]
        model.graph.node.extend([*rest[:2], *nodes, *rest[2:]])

    return change


def after(*changes: Change) -> Change:
    """Make several changes."""

    def change(model: ModelProto) -> None:
        for one in changes:
            one(model)

    return change


def constant(name: str, values: Any, dtype: Any = np.int64) -> Change:
    """Add an initialiser."""
    return lambda model: model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))


def attribute(node: int, name: str, value: Any) -> Change:
    """Set an attribute of a node."""

    def change(model: ModelProto) -> None:
        kept = [item for item in model.graph.node[node].attribute if item.name != name]
        del model.graph.node[node].attribute[:]
        model.graph.node[node].attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def weight(**fields: Any) -> Change:
    """Change what the first initialiser says of itself."""

    def change(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        for name, value in fields.items():
            if name == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)
            else:
                setattr(tensor, name, value)

    return change


def external(location: str, *, offset: str = "0", second: str | None = None) -> Change:
    """Say that the weights lie in another file."""

    def change(model: ModelProto) -> None:
        for tensor, place in zip(model.graph.initializer, (location, second or location), strict=True):
            tensor.data_location = TensorProto.EXTERNAL
            tensor.raw_data = b""
            for key, value in (("location", place), ("offset", offset)):
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value

    return change


def interface(*, inputs: Sequence[Any] = (), outputs: Sequence[Any] = ()) -> Change:
    """Replace the stated inputs or outputs."""

    def change(model: ModelProto) -> None:
        if inputs:
            del model.graph.input[:]
            model.graph.input.extend(item for item in inputs if item is not None)
        if outputs:
            del model.graph.output[:]
            model.graph.output.extend(item for item in outputs if item is not None)

    return change


def value(name: str, shape: Sequence[Any] | None, kind: int = TensorProto.FLOAT) -> Any:
    """Return a stated value."""
    return helper.make_tensor_value_info(name, kind, shape)


def functions(bodies: Mapping[str, Sequence[str]]) -> Change:
    """Let a chain of functions stand where the activation was: each applies those that it names, one after another."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]

    def change(model: ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid("own", 1))
        for name, calls in bodies.items():
            nodes = [
                helper.make_node(call, [f"v{n}"], [f"v{n + 1}"], domain="own" if call in bodies else "")
                for n, call in enumerate(calls)
            ]
            model.functions.append(helper.make_function("own", name, ["v0"], [f"v{len(calls)}"], nodes, opsets))
        inserted(helper.make_node(next(iter(bodies)), ["b"], ["z"], domain="own", name="outer"))(model)

    return change


def with_graph(operator: str) -> Change:
    """Put a node that carries a graph of its own."""
    inner = helper.make_graph([helper.make_node("Relu", ["b"], ["i"])], "inner", [], [value("i", None)])
    node = helper.make_node(operator, ["b"], ["z"], name="nested")
    node.attribute.append(helper.make_attribute("body", inner))
    return inserted(node)


def many_nodes(count: int) -> Change:
    """Put a long chain of activations."""
    chain = [
        helper.make_node("Relu", ["b" if n == 0 else f"r{n}"], [f"r{n + 1}" if n + 1 < count else "z"])
        for n in range(count)
    ]
    return inserted(*chain)


def not_text(model: ModelProto) -> None:
    model.graph.node[0].name = "~~~~"


def wrong_type(model: ModelProto) -> None:
    for item in model.graph.node[0].attribute:
        item.type = AttributeProto.STRING


def sparse(model: ModelProto) -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10]))


def no_opset(model: ModelProto) -> None:
    del model.opset_import[:]


def no_nodes(model: ModelProto) -> None:
    del model.graph.node[:]


def opset(version: int) -> Change:
    return lambda model: setattr(model.opset_import[0], "version", version)


def node(operator: str, *inputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, ["b", *inputs], ["z"], name="odd", **attributes)


def reads(position: int, name: str) -> Change:
    return lambda model: model.graph.node[position].input.__setitem__(0, name)


def writes(position: int, name: str) -> Change:
    return lambda model: model.graph.node[position].output.__setitem__(0, name)


HALF = np.ones((8, 3, 3, 3), np.float16)
BOMB = {f"f{n}": [f"f{n + 1}"] * 2 for n in range(30)} | {"f30": ["Relu"]}
DEEP = {f"f{n}": [f"f{n + 1}"] for n in range(40)} | {"f40": ["Relu"]}
MILLION = [1000, 1000, 1000]

NETWORKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "empty_file"),
    "noise": (lambda: bytes(np.random.default_rng(1).integers(0, 256, 4096, np.uint8)), "not_onnx"),
    "a megabyte of zeros": (lambda: bytes(2**20), "not_onnx"),
    "half a network": (lambda: ONNX.read_bytes()[:9000], "not_onnx"),
    "one byte": (lambda: b"\x08", "not_onnx"),
    "a pickle": (lambda: b"\x80\x04cos\nsystem\n(S'id'\ntR.", "not_onnx"),
    "a length that is never reached": (lambda: b"\x3a\xff\xff\xff\xff\x0f", "not_onnx"),
    "messages nested a thousand deep": (lambda: nested_messages(1000), "not_onnx"),
    "no nodes": (lambda: network(no_nodes), "not_onnx"),
    "no operator set": (lambda: network(no_opset), "not_onnx"),
    "an operator set of long ago": (lambda: network(opset(3)), "not_onnx"),
    "an operator set to come": (lambda: network(opset(999)), "not_onnx"),
    "a negative size": (lambda: network(weight(dims=[8, -3, 3, 3])), "not_onnx"),
    "a tensor of rank nine": (lambda: network(weight(dims=[1] * 9)), "not_onnx"),
    "a tensor of a terabyte": (lambda: network(weight(dims=[2**20, 2**18])), "model_too_large"),
    "a tensor whose size overflows": (lambda: network(weight(dims=[2**62, 2**62])), "model_too_large"),
    "less bytes than the shape says": (lambda: network(weight(raw_data=b"1234")), "not_onnx"),
    "more bytes than the shape says": (lambda: network(weight(raw_data=bytes(4000))), "not_onnx"),
    "a tensor of no known type": (lambda: network(weight(data_type=99)), "not_onnx"),
    "weights of text": (lambda: network(weight(data_type=TensorProto.STRING)), "not_onnx"),
    "weights in half precision": (
        lambda: network(weight(data_type=TensorProto.FLOAT16, raw_data=HALF.tobytes())),
        "unsupported_precision",
    ),
    "weights in double precision": (
        lambda: network(weight(data_type=TensorProto.DOUBLE, raw_data=HALF.astype(np.float64).tobytes())),
        "unsupported_precision",
    ),
    "weights that are no numbers": (
        lambda: network(weight(raw_data=np.full((8, 3, 3, 3), np.nan, np.float32).tobytes())),
        "invalid_graph",
    ),
    "twenty-five thousand nodes": (lambda: network(many_nodes(25_000)), "model_too_large"),
    "twenty-five thousand tensors": (
        lambda: network(after(*(constant(f"c{n}", [1]) for n in range(25_000)))),
        "model_too_large",
    ),
    "sparse tensors": (lambda: network(sparse), "unsupported_precision"),
    "a function that calls itself": (lambda: network(functions({"f": ["f"]})), "not_onnx"),
    "two functions that call each other": (lambda: network(functions({"f": ["g"], "g": ["f"]})), "not_onnx"),
    "functions that double thirty times": (lambda: network(functions(BOMB)), "model_too_large"),
    "functions nested forty deep": (lambda: network(functions(DEEP)), "not_onnx"),
    "a branch": (lambda: network(with_graph("If")), "nested_graph"),
    "a loop": (lambda: network(with_graph("Loop")), "nested_graph"),
    "a scan": (lambda: network(with_graph("Scan")), "nested_graph"),
    "a recurrent layer": (lambda: network(inserted(node("LSTM", "w", "h"))), "recurrent_network"),
    "a quantized layer": (lambda: network(inserted(node("QuantizeLinear", "w"))), "already_quantized"),
    "an operator of nobody": (lambda: network(inserted(node("Sorcery"))), "unsupported_operator"),
    "an operator of another domain": (
        lambda: network(inserted(node("Relu", domain="com.evil"))),
        "unsupported_operator",
    ),
    "two inputs": (
        lambda: network(interface(inputs=[value("x", ["n", 3, 8, 8]), value("u", ["n", 1])])),
        "unsupported_interface",
    ),
    "two outputs": (
        lambda: network(interface(outputs=[value("y", ["n", 10]), value("b", None)])),
        "unsupported_interface",
    ),
    "no outputs": (lambda: network(interface(outputs=[None])), "unsupported_interface"),
    "an output that nobody writes": (lambda: network(interface(outputs=[value("q", ["n", 10])])), "not_onnx"),
    "an output of rank four": (lambda: network(interface(outputs=[value("b", None)])), "unsupported_interface"),
    "an input of integers": (
        lambda: network(interface(inputs=[value("x", ["n", 3, 8, 8], TensorProto.INT64)])),
        "unsupported_precision",
    ),
    "a batch of eight": (lambda: network(interface(inputs=[value("x", [8, 3, 8, 8])])), "unsupported_interface"),
    "images of any size": (
        lambda: network(interface(inputs=[value("x", ["n", 3, "h", "w"])])),
        "unsupported_interface",
    ),
    "images of no size": (lambda: network(interface(inputs=[value("x", ["n", 3, 0, 8])])), "unsupported_interface"),
    "images a million wide": (
        lambda: network(interface(inputs=[value("x", ["n", 3, 2**20, 2**20])])),
        "shape_mismatch",
    ),
    "tensors of the machine": (lambda: network(external("/etc/passwd")), "external_data"),
    "tensors of the process": (lambda: network(external("/proc/self/environ")), "external_data"),
    "tensors outside": (lambda: network(external("../../secret")), "external_data"),
    "tensors behind a backslash": (lambda: network(external("..\\secret")), "external_data"),
    "tensors nowhere": (lambda: network(external("")), "external_data"),
    "tensors in this folder": (lambda: network(external(".")), "external_data"),
    "tensors in a file that did not come": (lambda: network(external("net.data")), "external_data"),
    "tensors in two files": (lambda: network(external("a.data", second="b.data")), "external_data"),
    "a node that reads what comes later": (lambda: network(reads(1, "c")), "not_onnx"),
    "a node that reads nothing known": (lambda: network(reads(1, "ghost")), "not_onnx"),
    "a value written twice": (lambda: network(writes(1, "a")), "not_onnx"),
    "a value written over a weight": (lambda: network(writes(1, "w")), "not_onnx"),
    "names that are no text": (lambda: network(not_text).replace(b"~~~~", b"\xff\xfe\xfd\xfc"), "not_onnx"),
    "attributes of the wrong type": (lambda: network(wrong_type), "not_onnx"),
    "a convolution without weights": (
        lambda: network(lambda model: model.graph.node[0].input.pop()),
        "unsupported_form",
    ),
    "a convolution of another size than its weights": (
        lambda: network(attribute(0, "kernel_shape", [5, 5])),
        "shape_mismatch",
    ),
    "a convolution in no groups": (lambda: network(attribute(0, "group", 0)), "shape_mismatch"),
    "a convolution in groups that do not fit": (lambda: network(attribute(0, "group", 7)), "shape_mismatch"),
    "a stride of zero": (lambda: network(attribute(0, "strides", [0, 0])), "not_onnx"),
    "a negative stride": (lambda: network(attribute(0, "strides", [-1, -1])), "shape_mismatch"),
    "padding without end": (lambda: network(attribute(0, "pads", [2**30] * 4)), "shape_mismatch"),
    "a dilation without end": (lambda: network(attribute(0, "dilations", [2**40, 2**40])), "shape_mismatch"),
    "a classifier that does not fit": (
        lambda: network(
            lambda model: model.graph.initializer[1].CopyFrom(
                numpy_helper.from_array(np.ones((10, 9), np.float32), "h")
            )
        ),
        "shape_mismatch",
    ),
    "a reshape to a terabyte": (
        lambda: network(after(constant("s", [1, 2**20, 2**10, 2**10]), inserted(node("Reshape", "s")))),
        "unsupported_form",
    ),
    "an expansion to a terabyte": (
        lambda: network(after(constant("s", [2**20, 8, 2**10, 2**10]), inserted(node("Expand", "s")))),
        "unsupported_form",
    ),
    "tiles without end": (
        lambda: network(after(constant("s", [1, 2**20, 2**20, 1]), inserted(node("Tile", "s")))),
        "unsupported_form",
    ),
    "a constant of a gigabyte": (
        lambda: network(
            after(
                constant("s", MILLION),
                inserted(helper.make_node("ConstantOfShape", ["s"], ["k"]), node("Add", "k")),
            )
        ),
        "unsupported_form",
    ),
    "an enlargement without end": (
        lambda: network(after(constant("s", [1, 1, 1e6, 1e6], np.float32), inserted(node("Resize", "", "s")))),
        "shape_mismatch",
    ),
}


def nested_messages(depth: int) -> bytes:
    """Return a graph in an attribute of a node of a graph, and so on."""
    data = b""
    for _ in range(depth):
        for field in (6, 5, 1):  # of an attribute: its graph; of a node: its attribute; of a graph: its node
            data = bytes([field << 3 | 2]) + varint(len(data)) + data
    return b"\x3a" + varint(len(data)) + data


def varint(number: int) -> bytes:
    """Return a number as protocol buffers write it."""
    pieces = []
    while number > 127:
        pieces.append(number & 127 | 128)
        number >>= 7
    return bytes([*pieces, number])


def safetensors(header: bytes, *, length: int | None = None) -> bytes:
    """Return a file with this header."""
    return struct.pack("<Q", len(header) if length is None else length) + header


ARCHITECTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a header longer than the file": (lambda: safetensors(b"{}", length=2**60), "invalid_input"),
    "a header that is no JSON": (lambda: safetensors(b"import os"), "invalid_input"),
    "a header nested without end": (lambda: safetensors(b'{"a":' * 50_000), "invalid_input"),
    "a tensor beyond the end": (
        lambda: safetensors(b'{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}'),
        "invalid_input",
    ),
    "a type that nobody knows": (
        lambda: safetensors(b'{"a":{"dtype":"EVIL","shape":[1],"data_offsets":[0,0]}}'),
        "invalid_input",
    ),
    "another network's weights, cut off": (lambda: WEIGHTS.read_bytes()[:-1], "invalid_input"),
}
