"""Prints how far the cost models are from published measurements and simulators.

Run ``python -m benchmarks.cost_accuracy --data FOLDER``; the folder holds the CSV and JSON files that ``cost_data``
reads. Ends with 2 where there is no data, with 1 where a target is missed.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import cost_haq, cost_sections, cost_speed, cost_unseen

SECTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "references": cost_sections.references,
    "haq": cost_haq.haq,
    "nasbench201": cost_sections.nasbench201,
    "cpu": cost_sections.published_cpus,
    "cpu_unseen": cost_unseen.unseen_networks,
    "datasheet": cost_sections.data_sheets,
    "microcontrollers": cost_sections.microcontrollers,
    "memory": cost_sections.microcontroller_memory,
    "energy": cost_sections.microcontroller_energy,
    "speed": cost_speed.speed,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen sections; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with the published measurements")
    parser.add_argument("--section", choices=sorted(SECTIONS), action="append", help="only these; repeatable")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(arguments)
    needed = ("measured_latency.csv", "nasbench201_latency.csv", "model_layers.json", "systolic_reference.csv")
    missing = [name for name in needed if not (options.data / name).is_file()]
    if missing:
        print(f"no data: {options.data} lacks {', '.join(missing)}", file=sys.stderr)
        return 2
    results: dict[str, Any] = {}
    for name in options.section or SECTIONS:
        started = time.perf_counter()
        results[name] = SECTIONS[name](options.data)
        print(f"\n## {name}  ({time.perf_counter() - started:.1f} s)")
        for line in results[name]["lines"]:
            print(line)
    targets = [target for result in results.values() for target in result["targets"]]
    print("\n## targets")
    for target in targets:
        print(
            f"{'met   ' if target['met'] else 'MISSED'} {target['what']}: {target['got']} (target {target['target']})"
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0 if all(target["met"] for target in targets) else 1


if __name__ == "__main__":
    sys.exit(main())
