"""Find a table of kernel times from whole networks' latencies: for devices where only networks can be timed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from hwmodels.calibrate import Measurement
from hwmodels.errors import InputError
from hwmodels.estimate import Pricer
from hwmodels.lookup import Key, kernel_key
from hwmodels.prepare import prepared
from hwmodels.profile import Profile, load_profile
from hwmodels.workload import Workload

RIDGE = 1e-3  # splits time evenly between kernels that always come together


def kernel_counts(pricer: Pricer, workload: Workload) -> dict[Key, int]:
    """Return how often each kernel of a table occurs in a network, after the runtime's fusion."""
    launched = prepared(workload, pricer.profile)
    elements, sizes = pricer.tensors(launched)
    counts: dict[Key, int] = {}
    for kernel in launched.kernels:
        key = kernel_key(kernel, pricer.demand(kernel, elements, sizes))
        counts[key] = counts.get(key, 0) + 1
    return counts


def fit_table(profile: Profile, measurements: Sequence[Measurement], *, source: str) -> Profile:
    """Return a lookup profile whose table and fixed time meet the measured networks best.

    Times are not negative and minimise the squared relative error. Kernels that occur in every network equally often
    cannot be told apart: their sum is right, and prices of networks that mix them otherwise are not.

    Raises:
        InputError: There are fewer than three measurements.
    """
    if len(measurements) < 3:
        raise InputError("measurements", "must be at least three", len(measurements))
    pricer = Pricer(profile)
    counts = [kernel_counts(pricer, measurement.workload) for measurement in measurements]
    keys = sorted({key for row in counts for key in row})
    latency_us = np.array([measurement.latency_ms * 1e3 for measurement in measurements])
    design = np.array([[row.get(key, 0) for key in keys] + [1.0] for row in counts]) / latency_us[:, None]
    times = _non_negative(design, np.ones(len(counts)))
    entries = [_entry(key, value) for key, value in zip(keys, times[:-1], strict=True)]
    data = profile.to_json()
    fixed = {"value": float(f"{times[-1]:.4g}"), "confidence": "fitted", "source": source}
    data["family"] = "lookup"
    data["model"] = {"entries": entries, "fixed_us": fixed, "confidence": "fitted", "source": source}
    return load_profile(data)


def _non_negative(design: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    scale = np.maximum(np.abs(design).max(axis=0), 1e-30)
    ridge = RIDGE * np.eye(design.shape[1])
    stacked = np.vstack([design / scale, ridge])
    solution = nnls(stacked, np.concatenate([target, np.zeros(design.shape[1])]))[0]
    times: NDArray[np.float64] = solution / scale
    return times


def _entry(key: Key, latency_us: float) -> dict[str, Any]:
    names = (
        "op",
        "in_channels",
        "out_channels",
        "input_elements",
        "output_elements",
        "kernel",
        "stride",
        "groups",
        "weight_bits",
        "activation_bits",
    )
    return {**dict(zip(names, key, strict=True)), "latency_us": float(f"{latency_us:.5g}")}
