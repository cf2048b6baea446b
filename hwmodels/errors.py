"""What can be wrong with a value that somebody handed in."""


class InputError(ValueError):
    """A value breaks a rule; says which field, which rule and what was got.

    The packages below the service raise it (or a subclass) for everything that is the sender's to mend.
    ``code`` is stable: clients may branch on it.
    """

    code = "invalid_input"

    def __init__(self, field: str, rule: str, value: object = None) -> None:
        shown = "" if value is None else f", got {_shortened(value)}"
        super().__init__(f"{field}: {rule}{shown}")
        self.field = field
        self.rule = rule
        self.value = value

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str, object]]:
        """Rebuild from the three parts, so that the error crosses process borders."""
        return type(self), (self.field, self.rule, self.value)


class UnknownNameError(InputError):
    """A name is not among the known ones; lists those."""

    code = "unknown_name"


def _shortened(value: object, *, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
