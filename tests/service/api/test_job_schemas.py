import pytest
from pydantic import ValidationError

from service.api.job_schemas import JobCreate
from workers.spec import FineTuneSpec, JobSpec


def body(**finetune: object) -> JobCreate:
    return JobCreate.model_validate({"model_id": "m", "devices": ["stm32h743"], "finetune": finetune})


def test_fine_tuning_asked_for_reaches_the_workers_through_json() -> None:
    spec = body(epochs=2, augment=True).to_spec()

    assert spec.finetune == FineTuneSpec(epochs=2, trials=4, method="lsq", augment=True)
    assert JobSpec.from_json(spec.to_json()) == spec


def test_no_job_is_fine_tuned_unless_it_asks() -> None:
    spec = JobCreate.model_validate({"model_id": "m", "devices": ["stm32h743"]}).to_spec()

    assert spec.finetune is None
    assert JobSpec.from_json(spec.to_json()).finetune is None


@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("trials", 0), ("method", "magic"), ("rate", 0.1)])
def test_fine_tuning_that_cannot_be_is_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        body(**{field: value})
