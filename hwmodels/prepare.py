"""What a runtime does to a graph before it runs it: drop what nobody reads, merge kernels."""

from collections.abc import Sequence
from dataclasses import replace

from hwmodels.onnxruntime_rules import as_onnxruntime_runs
from hwmodels.profile import FusionRule, Profile
from hwmodels.workload import Kernel, TensorInfo, Workload


def prepared(workload: Workload, profile: Profile) -> Workload:
    """Return the kernels that the profile's runtime launches for a network."""
    if profile.runtime_rules == "onnxruntime":
        return as_onnxruntime_runs(without_dead_kernels(workload))
    return fused(without_dead_kernels(workload), profile.fusion) if profile.fusion else workload


def without_dead_kernels(workload: Workload) -> Workload:
    """Return the workload without kernels whose results do not reach an output."""
    wanted = set(workload.outputs)
    kept: list[Kernel] = []
    for kernel in reversed(workload.kernels):
        if wanted.intersection(kernel.outputs):
            kept.append(kernel)
            wanted.update(kernel.inputs)
    if len(kept) == len(workload.kernels):
        return workload
    kernels = tuple(reversed(kept))
    return replace(workload, kernels=kernels, tensors=_used_tensors(workload, kernels))


def fused(workload: Workload, rules: Sequence[FusionRule]) -> Workload:
    """Return the workload with kernels merged as a runtime merges them.

    In execution order a kernel without MACs is merged into the one that wrote one of its inputs, when a rule names the
    pair (operator or kind) and that input has no other reader. A merged kernel keeps the first's numbers, reads the
    second's other inputs too, and its operator is ``first+second``. The intermediate tensor vanishes: no launch, no
    traffic.
    """
    if not rules:
        return workload
    pairs = {(rule.first, rule.second) for rule in rules}
    readers: dict[str, int] = {}
    for kernel in workload.kernels:
        for name in kernel.inputs:
            readers[name] = readers.get(name, 0) + 1
    for name in workload.outputs:
        readers[name] = readers.get(name, 0) + 1
    result: list[Kernel] = []
    writer: dict[str, int] = {}
    for kernel in workload.kernels:
        place = _host(kernel, result, writer, readers, pairs)
        if place is None:
            place = len(result)
            result.append(kernel)
        else:
            # The merged kernel runs where its last input is ready: where the second one stood.
            first = result[place]
            others = tuple(name for name in kernel.inputs if name not in first.outputs)
            merged = replace(
                first,
                op=f"{first.op}+{kernel.op}",
                inputs=first.inputs + others,
                outputs=kernel.outputs,
                fused=(*first.fused, kernel.name, *kernel.fused),
            )
            if others:
                del result[place]
                writer = {name: index - (index > place) for name, index in writer.items()}
                place = len(result)
                result.append(merged)
            else:
                result[place] = merged
        for name in result[place].outputs:
            writer[name] = place
    kernels = tuple(result)
    return replace(workload, kernels=kernels, tensors=_used_tensors(workload, kernels))


def _host(
    kernel: Kernel,
    result: Sequence[Kernel],
    writer: dict[str, int],
    readers: dict[str, int],
    pairs: set[tuple[str, str]],
) -> int | None:
    if kernel.macs:
        return None
    for name in kernel.inputs:
        place = writer.get(name)
        if place is None or readers[name] != 1:
            continue
        first = result[place]
        # What a merged kernel ends in decides what may follow; its kind is still that of its first part.
        ends = (first.op.rsplit("+", 1)[1],) if "+" in first.op else (first.op, first.kind.value)
        if any((end, name) in pairs for end in ends for name in (kernel.op, kernel.kind.value)):
            return place
    return None


def _used_tensors(workload: Workload, kernels: Sequence[Kernel]) -> dict[str, TensorInfo]:
    names = {name for kernel in kernels for name in (*kernel.inputs, *kernel.outputs)}
    names.update(workload.inputs, workload.outputs)
    return {name: info for name, info in workload.tensors.items() if name in names}
