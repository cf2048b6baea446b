"""Profiles without a single fitted number: from which a calibration starts, and what data sheets alone are worth."""

from pathlib import Path
from typing import Any

import yaml

from benchmarks.cost_data import Group
from hwmodels.profile import Profile, load_profile

CPU_CLASSES = {"conv": 0.5, "winograd": 0.8, "pointwise": 0.5, "depthwise": 0.15, "grouped": 0.2, "linear": 0.5}
GPU_CLASSES = {"conv": 0.2, "winograd": 0.3, "pointwise": 0.2, "depthwise": 0.03, "grouped": 0.05, "linear": 0.2}
SHARE_OF_PIN_RATE = 0.5
THREAD_SCALING = 0.7


def quantity(value: float) -> dict[str, Any]:
    """Return a number of a generic profile."""
    return {"value": value, "confidence": "estimate", "source": "generic"}


def roofline(
    name: str,
    *,
    kind: str = "cpu",
    clock_ghz: float = 2.0,
    cores: int = 4,
    threads: int = 1,
    rates: dict[str, float],
    per_core: bool = True,
    dram_gb_per_s: float = 6.0,
    launch_us: float = 10.0,
    classes: dict[str, float] | None = None,
    float_bits: int = 32,
) -> Profile:
    """Return a roofline profile of generic efficiencies."""
    field = "macs_per_cycle_core" if per_core else "gmac_per_s"
    table = [
        {
            "arithmetic": arithmetic,
            "weight_bits": float_bits if arithmetic == "float" else 8,
            "activation_bits": float_bits if arithmetic == "float" else 8,
            field: quantity(value),
        }
        for arithmetic, value in rates.items()
    ]
    return load_profile(
        {
            "name": name,
            "title": name,
            "kind": kind,
            "chip": name,
            "clock_ghz": quantity(clock_ghz),
            "runtime": "generic",
            "release": "generic",
            "family": "roofline",
            "model": {
                "cores": quantity(cores),
                "threads": quantity(threads),
                "thread_scaling": quantity(THREAD_SCALING),
                "rates": table,
                "efficiency": {key: quantity(value) for key, value in (classes or CPU_CLASSES).items()},
                "dram_gb_per_s": quantity(dram_gb_per_s),
                "winograd_tile": quantity(4),
                "ramp_channels": quantity(4),
                "element_ns": quantity(2),
                "launch_us": quantity(launch_us),
                "fixed_us": quantity(0),
            },
            "formats": {
                "weight_bits": [8, 16, 32],
                "activation_bits": [8, 16, 32],
                "float_bits": float_bits,
                "confidence": "estimate",
                "source": "generic",
            },
        }
    )


def generic_cpu(name: str) -> Profile:
    """Return a CPU of no particular make."""
    return roofline(name, rates={"float": 4.0, "integer": 8.0})


def generic_microcontroller(name: str) -> Profile:
    """Return a Cortex-M of no particular make."""
    data = generic_cpu(name).to_json()
    classes = {"conv": 0.3, "pointwise": 0.3, "depthwise": 0.12, "linear": 0.3}
    data |= {"kind": "mcu", "family": "microcontroller", "clock_ghz": quantity(0.2)}
    data["model"] = {
        "rates": [
            {
                "arithmetic": arithmetic,
                "weight_bits": bits,
                "activation_bits": bits,
                "macs_per_cycle_core": quantity(rate),
            }
            for arithmetic, bits, rate in (("integer", 8, 2.0), ("float", 32, 1.0))
        ],
        "efficiency": {key: quantity(value) for key, value in classes.items()},
        "cycles_per_element": quantity(10),
        "cycles_per_weight_byte": quantity(0.5),
        "cycles_per_kernel": quantity(5000),
    }
    return load_profile(data)


def profiles_from_data_sheets(path: Path, group: Group) -> Profile | None:
    """Return the profile of a group's device with nothing but data-sheet facts, or ``None`` where there are none."""
    devices = yaml.safe_load(path.read_text(encoding="utf-8"))["devices"]
    facts = devices.get(group.device)
    if facts is None:
        return None
    clock = float(group.clock_mhz) / 1e3 if group.clock_mhz else float(facts.get("clock_ghz", [1.0])[0])
    pins = facts.get("dram_gbs_peak", [12.0])
    pin_rate = pins[0] if isinstance(pins, list) else next(iter(pins.values()))[0]
    bandwidth = facts.get("dram_gbs_stream", [0])[0] or SHARE_OF_PIN_RATE * pin_rate
    if "mac_per_cycle_core" in facts:
        peak = facts["mac_per_cycle_core"]
        wide = peak.get("fp32") or peak.get("fp32_avx512")
        if group.dtype == "fp16" and "fp16" in peak:
            wide = peak["fp16"]
        narrow = peak.get("int8") or peak.get("int8_vnni")
        cores = int(facts["cores"][0])
        threads = cores if group.threads == "all" else int(group.threads or 1)
        return roofline(
            f"sheet-{group.device.replace('_', '-')}",
            clock_ghz=clock,
            cores=cores,
            threads=threads,
            rates={"float": wide[0], "integer": narrow[0]},
            dram_gb_per_s=bandwidth,
        )
    if "peak_tflops" in facts or "fp16_dense" in facts.get("peak_tops", {}):
        peak = facts.get("peak_tflops") or {"fp16": facts["peak_tops"]["fp16_dense"]}
        tera = peak["fp16" if "fp16" in group.dtype and "fp16" in peak else next(iter(peak))][0]
        return roofline(
            f"sheet-{group.device.replace('_', '-')}",
            kind="gpu",
            clock_ghz=clock,
            rates={"float": tera * 1e3 / 2},
            per_core=False,
            dram_gb_per_s=bandwidth,
            launch_us=facts.get("launch_overhead_us", [20.0])[0],
            classes=GPU_CLASSES,
        )
    return None
