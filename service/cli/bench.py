"""``tightfit bench``: time an ONNX file on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.common import Json
from service.cli.output import err, input_errors_end_the_command, out, print_json, table

NOISY_PERCENT = 5.0


def bench(
    file: Annotated[Path, typer.Argument(help="ONNX file, float or quantized.", exists=True, dir_okay=False)],
    csv: Annotated[Path | None, typer.Option(help="Append a row to this file; it is made if it is not there.")] = None,
    network: Annotated[
        str, typer.Option(help="What to call the network in the file; by default the file's name.")
    ] = "",
    threads: Annotated[int, typer.Option(min=1, help="Threads that ONNX Runtime may use.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long to measure, after the warm-up.")] = 2.0,
    as_json: Json = False,
) -> None:
    """Time an ONNX file with ONNX Runtime on this machine: batch of one, warm, the median of many runs.

    Needs no service. The rows that --csv collects are what `tightfit calibrate --measurements` fits a profile to.
    """
    from hwmodels.measure.bench import append_row, bench_row, time_file  # ONNX Runtime: other commands start without

    with input_errors_end_the_command():
        timing = time_file(file, threads=threads, seconds=seconds)
        row = bench_row(file, timing, network=network or file.stem, table=csv or file)
        if csv is not None:
            append_row(csv, row)
    if as_json:
        print_json({name: getattr(row, name) for name in row.__dataclass_fields__})
    else:
        found = table("", "Network", ">Median (ms)", ">Fastest (ms)", ">Noise (%)", ">Runs", ">Threads", "Runtime")
        figures = (f"{row.latency_ms:.3f}", f"{row.least_ms:.3f}", f"{row.noise_percent:.1f}", str(row.runs))
        found.add_row(row.network, *figures, str(row.threads), row.runtime)
        out.print(found)
    if timing.noise_percent > NOISY_PERCENT:
        text = (
            f"Two sessions differ by {timing.noise_percent:.1f} %: something else ran, or the clock moved. Repeat it."
        )
        err.print(text, style="yellow", soft_wrap=True)
