from collections.abc import Callable

import pytest

from service.api.presenters import job_read, trial_read
from service.api.schemas import KernelRow, TrialDetail
from service.pages.panel import Panel, panel
from service.store.database import Database
from service.store.jobs import Jobs
from service.store.trials import Trials
from tests.service.pages.rows import DESCRIPTION, PI, stored_job

Show = Callable[[int], Panel | None]


def kernel(name: str, *, weight_bytes: int) -> KernelRow:
    return KernelRow(
        name=name, kind="conv", latency_ms=0.5, energy_mj=0.25, weight_bytes=weight_bytes, bound="compute", macs=10
    )


KERNELS = [
    kernel("conv1", weight_bytes=150),
    kernel("conv1/reduce", weight_bytes=20),
    kernel("pool", weight_bytes=0),
    kernel("linear", weight_bytes=50),
]


@pytest.fixture
def show(database: Database) -> Show:
    """Return the panel of one of the stored trials on the Pi."""
    with database.write() as connection:
        stored = stored_job(connection)
        record = Jobs(connection).get(stored.id)
        trials = Trials(connection).page(stored.id)
    assert record is not None
    job = job_read(record, {})

    def panel_of(number: int) -> Panel | None:
        read = TrialDetail(**trial_read(trials[number]).model_dump(), layers={PI: KERNELS})
        return panel(job, read, device=PI, description=DESCRIPTION)

    return panel_of


def shown(found: Panel | None) -> Panel:
    assert found is not None
    return found


def test_figures_stand_beside_the_float_networks(show: Show) -> None:
    found = shown(show(1))

    ratios = {figure.name: figure.ratio for figure in found.figures}
    assert ratios["latency_ms"] == pytest.approx(8.0 / 1.0)
    assert ratios["packed_bytes"] == pytest.approx(6400 / 900)
    assert found.drop == pytest.approx(0.91 - 0.99)


def test_a_broken_limit_is_marked(show: Show) -> None:
    over = [figure.name for figure in shown(show(5)).figures if figure.over]

    assert over == ["latency_ms"]


def test_layers_have_their_bits_their_channels_and_what_replaced_their_block(show: Show) -> None:
    conv, reduce, pool, linear = shown(show(1)).layers

    assert (conv.weight_bits, conv.activation_bits, conv.keep_ratio, conv.operator) == (4, 8, 0.5, "skip")
    assert (reduce.weight_bits, reduce.operator) == (None, "skip")
    assert (pool.weight_bits, pool.keep_ratio, pool.operator) == (None, None, "")
    assert (linear.weight_bits, linear.keep_ratio, linear.operator) == (4, 1.0, "")


def test_a_block_that_was_left_alone_is_original(show: Show) -> None:
    assert shown(show(4)).layers[0].operator == "original"
    assert shown(show(4)).layers[0].keep_ratio == 0.75


def test_verification_says_what_was_measured_again(show: Show) -> None:
    checks = shown(show(1)).checks

    assert all(check.good for check in checks)
    said = " | ".join(check.text for check in checks)
    assert "the packed file gets 91 of 100 search images right (91.00 %); the trial got 91" in said
    assert "the ONNX file in ONNX Runtime gets 90 of 100" in said
    # a drop between 1 and 15 points is a change between -15 and -1
    assert "difference between -15.00 points and -1.00 points" in said


@pytest.mark.parametrize(("number", "reason"), [(2, "never measured"), (5, "breaks a limit"), (3, "Not packed yet")])
def test_without_a_checkpoint_the_reason_is_said(show: Show, number: int, reason: str) -> None:
    assert reason in shown(show(number)).no_checkpoint


def test_a_trial_in_flight_has_nothing_to_show(show: Show) -> None:
    assert show(7) is None
