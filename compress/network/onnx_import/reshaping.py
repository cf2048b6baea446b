"""Reshapes written so that they hold at any batch size and after channels are cut.

A file states the target of a reshape in numbers, for a batch of one and all channels. Here a size that is the input's
own is copied, merged dimensions are a ``flatten``, and one size that cannot be copied is inferred: the batch if it
moves or merges, else the last one of the dimensions that are regrouped.
"""

import math

from compress.network.onnx_import.errors import FIELD, FixedBatchError
from compress.network.onnx_import.translation import Translation
from compress.network.ops.spec import Shape


def emit_reshape(graph: Translation, name: str, value: str, target: Shape, output: str) -> None:
    """Write the node that arranges ``value`` as ``target``, which is stated for a batch of one.

    A reshape of a reshape is written as one; what comes back to the old shape is the old value.
    """
    value = graph.arranged_from.get(value, value)
    if graph.is_constant(value):
        graph.emit(name, "reshape", [value], output, shape=target)
        return
    if graph.shape(value) == target:
        graph.alias(output, value)
        return
    shape = graph.at_two(value)
    place, before = _batch_place(graph, name, value, target)
    wanted = tuple(2 * size if index == place else size for index, size in enumerate(target))
    graph.arranged_from[output] = value
    merged = _merged(shape, wanted)
    if merged is not None:
        start, end = merged
        end = -1 if end == len(shape) - 1 else end
        graph.emit(name, "flatten", [value], output, before=before, start_dim=start, end_dim=end)
        return
    rule = _rule(shape, wanted, place)
    graph.emit(name, "reshape", [value], output, before=before, shape=rule)


def _batch_place(graph: Translation, name: str, value: str, target: Shape) -> tuple[int, int]:
    """Return the dimension of ``target`` that takes the batch, and how many entries precede the batch inside it.

    Reshaping keeps the order of the values, so the batch must stay behind as many entries as it was.
    """
    dim = graph.batch_dim(value)
    assert dim is not None
    shape = graph.shape(value)
    slower = math.prod(shape[:dim]) * graph.before_batch(value)
    stays = target[: dim + 1] == (*shape[:dim], 1) and graph.before_batch(value) == 1
    if stays:
        return dim, 1
    places = []
    for index, size in enumerate(target):
        leading = math.prod(target[:index])
        if slower % leading == 0 and size % (slower // leading) == 0:
            places.append((index, slower // leading))
    if not places:
        rule = f"must run at any batch size; node {name!r} reshapes the batch apart"
        raise FixedBatchError(FIELD, rule, list(target))
    places.sort(key=lambda place: (place[1] != 1, target[place[0]] != 1, place[0] != dim))
    if len(places) == 1:
        return places[0]
    situation = (shape, dim, graph.before_batch(value), target)
    return places[graph.decisions.pick(situation, len(places))]


def _merged(shape: Shape, wanted: Shape) -> tuple[int, int] | None:
    """Return first and last of the adjacent dimensions whose merging alone makes ``wanted`` of ``shape``."""
    gone = len(shape) - len(wanted)
    if gone < 1:
        return None
    for start in range(len(wanted)):
        end = start + gone
        if wanted == (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]):
            return start, end
    return None


def _rule(shape: Shape, wanted: Shape, place: int) -> tuple[int, ...]:
    """Return the target with 0 where a size is copied and at most one -1."""
    leading = 0
    while leading < min(len(shape), len(wanted)) and shape[leading] == wanted[leading]:
        leading += 1
    trailing = 0
    room = min(len(shape), len(wanted)) - leading
    while trailing < room and shape[-1 - trailing] == wanted[-1 - trailing]:
        trailing += 1
    rule = [0] * leading + list(wanted[leading:])
    end = len(wanted) - trailing
    if place >= leading:
        rule[place] = -1
        return tuple(rule)
    regrouped = [index for index in range(leading, end) if wanted[index] != 1]
    if regrouped:
        rule[regrouped[-1]] = -1
    return tuple(rule)
