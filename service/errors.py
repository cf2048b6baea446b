"""What goes wrong on purpose in the service; knows nothing of HTTP (``service/api/errors.py`` does).

What a sender can mend in a value is an ``hwmodels.errors.InputError``; here is everything else.
"""


class AppError(Exception):
    """A request that cannot be served, for a reason worth telling. ``code`` is stable: clients may branch on it."""

    code = "error"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code


class NotFoundError(AppError):
    """Nothing has this identifier. ``field`` says where the identifier stood, ``known`` what would have been found."""

    def __init__(self, kind: str, value: str, *, field: str | None = None, known: tuple[str, ...] = ()) -> None:
        listed = f"; known: {', '.join(known)}" if known else ""
        super().__init__(f"unknown {kind} {value!r}{listed}", code=f"unknown_{kind}")
        self.field = field
        self.value = value


class ConflictError(AppError):
    """The request contradicts the state that something is in."""

    code = "conflict"


class TooLargeError(AppError):
    """An upload is longer than the service takes."""

    code = "too_large"


class TooManyError(AppError):
    """An owner asks for more than anybody may have at once; the same request may succeed later."""

    code = "too_many"

    def __init__(self, detail: str, *, code: str | None = None, retry_after_s: int) -> None:
        super().__init__(detail, code=code)
        self.retry_after_s = retry_after_s


class UnavailableError(AppError):
    """Something the service leans on does not answer at the moment; the same request may succeed later."""

    code = "unavailable"


class LeaseLostError(AppError):
    """Another dispatcher has taken the job over; what this one wanted to write is void."""

    code = "lease_lost"
