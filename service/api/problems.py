"""``/v1/problems``: what an error's ``type`` points to."""

from fastapi import APIRouter

from service.api.problem_types import PROBLEMS
from service.api.schemas import Answer, Page
from service.errors import NotFoundError

router = APIRouter(prefix="/v1/problems", tags=["problems"])


class ProblemType(Answer):
    """A kind of error: its stable code, and what it means."""

    code: str
    meaning: str


@router.get("")
def list_problems() -> Page[ProblemType]:
    """List every code that an error may carry."""
    return Page(items=[ProblemType(code=code, meaning=meaning) for code, meaning in PROBLEMS.items()])


@router.get("/{code}")
def read_problem(code: str) -> ProblemType:
    """Return what a code means."""
    if code not in PROBLEMS:
        raise NotFoundError("problem", code)
    return ProblemType(code=code, meaning=PROBLEMS[code])
