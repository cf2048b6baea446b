"""What processor this is."""

import platform
from pathlib import Path


def processor_facts() -> tuple[str, float]:
    """Return this processor's name and clock in GHz."""
    name, mhz = platform.processor() or platform.machine(), 0.0
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        for line in facts.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "cpu MHz":
                mhz = float(value)
    return name, mhz / 1e3 if mhz > 0 else 1.0
