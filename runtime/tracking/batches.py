"""Requests to an MLflow server, within its limits.

What a server refuses for its content is noted and passed over: sending it again would not help, and it must not keep
the rest from being sent. All other errors are raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MAX_METRICS = 1000
MAX_PARAMETERS = 100
SHORT_PARAMETER = 250  # what servers of before 2.9 take

MetricValue = tuple[str, float, int, int]  # name, value, time in ms, step
Note = Callable[[str], None]


def log_parameters(client: Any, run_id: str, wanted: Mapping[str, str], note: Note) -> None:
    """Only those that the run has not: MLflow refuses to change one."""
    from mlflow.entities import Param

    there = client.get_run(run_id).data.params
    params = [Param(name, value) for name, value in wanted.items() if name not in there]
    for batch in _batches(params, MAX_PARAMETERS):
        if _accepts(note, client.log_batch, run_id, params=batch):
            continue
        for param in batch:
            short = Param(param.key, param.value[:SHORT_PARAMETER])
            if not _accepts(note, client.log_batch, run_id, params=[short]):
                note(f"the server refuses the parameter {param.key}")


def log_metrics(client: Any, run_id: str, values: Sequence[MetricValue], note: Note) -> None:
    from mlflow.entities import Metric

    for batch in _batches([Metric(*value) for value in values], MAX_METRICS):
        if not _accepts(note, client.log_batch, run_id, metrics=batch):
            note(f"the server refuses {len(batch)} metrics from {batch[0].key} on")


def log_datasets(client: Any, run_id: str, items: Sequence[Mapping[str, str]], key: str, note: Note) -> None:
    """`items` as `content.datasets` makes them; `key` is the data stage's."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for item in items:
        data = Dataset(**{name: item[name] for name in ("name", "digest", "source_type", "source", "profile")})
        tags = [InputTag("mlflow.data.context", item["context"]), InputTag("distilc.key", key)]
        inputs.append(DatasetInput(data, tags))
    if not _accepts(note, client.log_inputs, run_id, datasets=inputs):
        note("the server refuses the data sets")


def _accepts(note: Note, request: Callable[..., None], run_id: str, **content: Sequence[Any]) -> bool:
    try:
        request(run_id, **content)
    except Exception as error:
        if getattr(error, "error_code", None) not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
            raise
        note(f"refused: {error}")
        return False
    return True


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
