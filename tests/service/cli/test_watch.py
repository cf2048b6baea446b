from service.api.schemas import Baseline, JobDevice, JobRead
from service.cli.watch import best_so_far
from tests.service.cli.test_joint import DEVICE, front, trial
from tests.service.test_client import JOB


def job(*, accuracy: float | None) -> JobRead:
    baseline = None if accuracy is None else Baseline(accuracy=accuracy, images=100, costs={})
    return JobRead.model_validate({**JOB, "baseline": None}).model_copy(update={"baseline": baseline})


def test_best_is_the_cheapest_that_loses_little() -> None:
    points = [trial(1, 0.90, 1.0, joint=False), trial(2, 0.975, 2.0, joint=False), trial(3, 0.98, 3.0, joint=False)]

    best = best_so_far(job(accuracy=0.98), front(*points))

    assert best is not None
    assert best.number == 2  # 0.5 points lost are allowed, 8 are not


def test_the_limit_of_the_device_says_how_much_may_be_lost() -> None:
    points = [trial(1, 0.90, 1.0, joint=False), trial(2, 0.975, 2.0, joint=False)]
    wider = job(accuracy=0.98).model_copy(update={"devices": [JobDevice(name=DEVICE, limits={"accuracy_drop": 0.08})]})

    best = best_so_far(wider, front(*points))

    assert best is not None
    assert best.number == 1


def test_of_equally_cheap_trials_the_more_accurate_is_best() -> None:
    points = [trial(1, 0.975, 2.0, joint=False), trial(2, 0.98, 2.0, joint=False)]

    best = best_so_far(job(accuracy=0.98), front(*points))

    assert best is not None
    assert best.number == 2


def test_there_is_no_best_while_nothing_is_close_or_the_float_network_is_not_measured() -> None:
    far = front(trial(1, 0.5, 1.0, joint=False))

    assert best_so_far(job(accuracy=0.98), far) is None
    assert best_so_far(job(accuracy=None), far) is None
