"""A diagnosis of the run half: what went wrong, where it comes from, what to type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .messages.credentials import redact


class Failure(Exception):
    """A run cannot go on: a diagnosis for the user.

    `code` R1xx plan, R2xx inputs (data, models), R3xx training, R4xx store and machine, R5xx tracking.
    `spec_path` (for example `data.columns.source`) lets the driver point at the line of the spec.
    `exit_code`: 1 a diagnosis, 75 try again, 130 interrupted by the user (resumable).
    """

    def __init__(
        self, code: str, message: str, hint: str = "", *, spec_path: str | None = None, exit_code: int = 1
    ) -> None:
        self.message, self.hint = redact(message), redact(hint)  # it is shown, written and sent
        super().__init__(self.message)
        self.code = code
        self.spec_path = spec_path
        self.exit_code = exit_code

    def record(self) -> dict[str, object]:
        """Its parts as JSON; `Failure.of(record)` makes it again."""
        names = ("code", "message", "hint", "spec_path", "exit_code")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Failure:
        """The failure of a record. KeyError: it is no record of one."""
        return cls(
            record["code"], record["message"], record["hint"],
            spec_path=record["spec_path"], exit_code=record["exit_code"],
        )  # fmt: skip

    def __reduce__(self) -> tuple[Callable[..., Failure], tuple[object, ...]]:
        """Pickled whole, from one process to another."""
        return Failure.of, (self.record(),)


def interrupted(stage_id: str) -> Failure:
    """What a stage raises when it ends early because it was asked to."""
    return Failure(
        "R300", f"stopped in stage {stage_id}", "the same command goes on from here", exit_code=130
    )
