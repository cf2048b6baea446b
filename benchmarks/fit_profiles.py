"""Fits the shipped profiles to published measurements and writes numbers and expected errors into their files.

Run ``python -m benchmarks.fit_profiles --data FOLDER`` after ``hwmodels/profiles`` or a model has changed.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from benchmarks.cost_data import Group, Networks, measured_groups
from benchmarks.cost_sections import board, priors, runtime_kind
from benchmarks.generic_profiles import generic_cpu, generic_microcontroller
from hwmodels.calibrate import Design, Measurement, Prior, calibrate, fit_knobs, knobs_of, with_knobs
from hwmodels.estimate import estimate
from hwmodels.microcontroller import MicrocontrollerParameters
from hwmodels.profile import Profile, load_profile
from hwmodels.validation import ErrorSummary, summarise
from hwmodels.workload import Arithmetic

PROFILES = Path(__file__).parents[1] / "hwmodels" / "profiles"
LEFT_OUT = "leave one network out, mean absolute error"
SHEET = "data sheet only, mean absolute error"


class Fit(NamedTuple):
    """Which rows a profile is fitted to."""

    profile: str
    device: str
    runtime: str
    dtype: str
    threads: str = "1"
    validated: bool = True  # False: the rows are another chip's
    fit: bool = True  # False: only the error is written


FITS = (
    Fit("raspberry-pi-3", "rpi3bplus_cortex_a53", "ncnn", "fp32"),
    Fit("raspberry-pi-3", "rpi3bplus_cortex_a53", "ncnn", "int8"),
    Fit("raspberry-pi-4", "rpi4_cortex_a72", "ncnn", "fp32"),
    Fit("raspberry-pi-4", "rpi4_cortex_a72", "ncnn", "int8"),
    Fit("raspberry-pi-5", "rpi5_cortex_a76", "ncnn", "fp16"),
    Fit("raspberry-pi-5", "rpi5_cortex_a76", "ncnn", "int8"),
    Fit("raspberry-pi-zero-2w", "rpi_zero2w_cortex_a53", "ncnn", "fp32"),
    Fit("raspberry-pi-zero-2w", "rpi_zero2w_cortex_a53", "ncnn", "int8"),
    Fit("pixel-4-cpu", "cortexa76_pixel4_1t", "TFLite", "fp32"),
    Fit("pixel-3-cpu", "pixel3_kryo385", "TFLite", "fp32", "4"),
    Fit("pixel-3-cpu", "pixel3_kryo385", "TFLite", "int8", "4"),
    Fit("x86-avx2", "x86_epyc_7742", "ncnn", "fp32"),
    Fit("x86-avx2", "x86_epyc_7742", "ncnn", "int8"),
    Fit("x86-avx512-vnni", "x86_i9_10940x", "PyTorch", "fp32", "all"),
    Fit("adreno-640", "adreno640", "TFLite 2.1 GPU", "fp16", ""),
    Fit("adreno-630", "adreno630", "TFLite (Android 10)", "fp16", ""),
    Fit("jetson-nano", "jetson_nano_gpu", "ncnn", "fp16"),
    Fit("jetson-orin-nano", "jetson_orin_nano_gpu", "ncnn", "fp16"),
    Fit("myriad-x", "myriad_x_ncs2", "OpenVINO", "fp16", ""),
    Fit("edge-tpu-usb", "edgetpu_usb", "Edge TPU", "int8", "", fit=False),
    Fit("edge-tpu-devboard", "edgetpu_devboard", "Edge TPU", "int8", "", fit=False),
    Fit("stm32n6", "stm32n6_npu", "STM32Cube", "int8"),
    Fit("stm32h743", "stm32h747", "STM32Cube.AI 10", "int8", validated=False),
    Fit("stm32h7a3", "stm32h7a3", "X-CUBE-AI v9", "int8"),
    Fit("stm32f746", "stm32f746", "Bosch Hardware-Aware Lowering Engine (HALE) version 1.0.175", "int8"),
    Fit("stm32l4r5", "stm32l4r5", "X-CUBE-AI v9", "int8"),
    Fit("stm32u575", "stm32u575", "NUCLEO", "int8"),
)


def main() -> None:
    """Fit every profile of ``FITS``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    networks = Networks(options.data)
    known = _known_priors(options.data, networks)
    groups = measured_groups(options.data, networks, engines=("cpu", "gpu", "npu", "mcu"))
    fitted: dict[str, Profile] = {}
    for fit in FITS:
        group = next(
            g
            for g in groups
            if g.device == fit.device
            and g.runtime.startswith(fit.runtime)
            and g.dtype.startswith(fit.dtype)
            and g.threads == fit.threads
        )
        profile = fitted.get(fit.profile) or _cleared(fit.profile)
        fitted[fit.profile] = _fitted(fit, profile, group, groups[group], known)
    for name, profile in fitted.items():
        _write(PROFILES / f"{name}.yaml", profile)


def _known_priors(folder: Path, networks: Networks) -> Mapping[Any, Prior]:
    known: dict[Any, Prior] = {}
    for engine, base in (("cpu", generic_cpu("generic")), ("mcu", generic_microcontroller("generic"))):
        groups = measured_groups(folder, networks, engines=(engine,))
        for arithmetic in (Arithmetic.FLOAT, Arithmetic.INTEGER):
            kept = {g: m for g, m in groups.items() if (g.dtype == "int8") == (arithmetic is Arithmetic.INTEGER)}
            designs = {g: [Design(base, [m.workload]) for m in found] for g, found in kept.items()}
            found = priors(kept, designs, Prior(knobs_of(base, arithmetic)), kind=runtime_kind)
            known |= {(engine, *key): value for key, value in found.items()}
    return known


def _cleared(name: str) -> Profile:
    data = yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8"))
    return load_profile({**data, "validation": []})


def _fitted(
    fit: Fit, profile: Profile, group: Group, measurements: Sequence[Measurement], known: Mapping[Any, Prior]
) -> Profile:
    engine = "mcu" if isinstance(profile.model, MicrocontrollerParameters) else profile.kind
    source = f"fitted to {len(measurements)} published networks on {group}"
    at_rows_clock = profile
    if group.clock_mhz:
        clock = profile.clock_ghz.model_copy(update={"value": float(group.clock_mhz) / 1e3})
        at_rows_clock = profile.model_copy(update={"clock_ghz": clock})
    if not fit.fit:
        predicted = [estimate(m.workload, profile).latency_ms for m in measurements]
        errors = summarise(predicted, [m.latency_ms for m in measurements])
        return _validated(profile, fit, errors, method=SHEET)
    arithmetic = Arithmetic.INTEGER if fit.dtype == "int8" else Arithmetic.FLOAT
    prior = known.get((engine, runtime_kind(group), board(group)))
    if profile.validation and prior is not None:  # float networks were fitted before: keep their costs
        mean = knobs_of(at_rows_clock, arithmetic)
        mean[:6] = prior.mean[:6]
        prior = Prior(mean, prior.spread, costs_fixed=True)
    if len({m.network for m in measurements}) < 3:
        # Two networks: fit all, and say so by leaving the profile unvalidated.
        start = prior or Prior(knobs_of(profile, arithmetic))
        design = Design(at_rows_clock, [m.workload for m in measurements])
        knobs = fit_knobs(design, np.array([m.latency_ms for m in measurements]), start)
        return _at_own_clock(with_knobs(at_rows_clock, knobs, arithmetic, source=source), profile)
    result = calibrate(at_rows_clock, measurements, source=source, prior=prior)
    print(f"{fit.profile:24} {fit.dtype:5} {result.left_out}")
    own = _at_own_clock(result.profile, profile)
    return _validated(own, fit, result.left_out, method=LEFT_OUT) if fit.validated else own


def _at_own_clock(fitted: Profile, profile: Profile) -> Profile:
    return fitted.model_copy(update={"clock_ghz": profile.clock_ghz})


def _validated(profile: Profile, fit: Fit, errors: ErrorSummary, *, method: str) -> Profile:
    entry = {
        "figure": "latency_ms",
        "mape_percent": round(errors.mape_percent, 1),
        "within_10_percent": round(errors.within_10_percent, 1),
        "networks": errors.count,
        "spearman": None if errors.spearman is None else round(errors.spearman, 3),
        "applies_to": "integer" if fit.dtype == "int8" else "float",
        "method": method,
        "source": f"published latencies of {fit.device}, {fit.runtime}",
    }
    data = profile.to_json()
    data["validation"] = [*data.get("validation", []), {k: v for k, v in entry.items() if v is not None}]
    return load_profile(data)


def _write(path: Path, profile: Profile) -> None:
    text = yaml.safe_dump(profile.to_json(), sort_keys=False, allow_unicode=True, width=118, default_flow_style=None)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
