"""A diagnosis of the run half: what went wrong, where it comes from, what to type."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .messages.credentials import redact


class Failure(Exception):
    """A run that cannot go on, said in the user's words.

    `code` R1xx plan, R2xx inputs (data, models), R3xx training, R4xx store and machine, R5xx tracking.
    `spec_path` (for example `data.columns.source`) lets the driver point at the line of the spec.
    `exit_code`: 1 a diagnosis, 75 try again, 130 interrupted by the user (resumable).
    """

    def __init__(
        self, code: str, message: str, hint: str = "", *, spec_path: str | None = None, exit_code: int = 1
    ) -> None:
        self.message, self.hint = redact(message), redact(hint)  # what is said is shown, written and sent
        super().__init__(self.message)
        self.code = code
        self.spec_path = spec_path
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[Callable[..., Failure], tuple[object, ...]]:
        """It crosses from one process to another whole."""
        again = partial(Failure, spec_path=self.spec_path, exit_code=self.exit_code)
        return again, (self.code, self.message, self.hint)


def interrupted(stage_id: str) -> Failure:
    """What a stage raises when it ends early because it was asked to."""
    return Failure(
        "R300", f"stopped in stage {stage_id}", "the same command goes on from here", exit_code=130
    )
