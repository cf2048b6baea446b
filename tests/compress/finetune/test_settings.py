import pytest

from compress.finetune import FineTuning
from hwmodels.errors import InputError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "magic"),
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("schedule", "sawtooth"),
        ("warmup", 1.0),
        ("distillation", 1.5),
        ("temperature", 0.0),
        ("shift", -1),
        ("blend", 1.5),
    ],
)
def test_what_cannot_be_trained_with_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"finetune.{field}"):
        FineTuning(**{field: value})  # type: ignore[arg-type]
