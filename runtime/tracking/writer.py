"""Writes into one MLflow run, in batches within MLflow's limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .server import error_kind

MAX_METRICS = 1000
MAX_PARAMETERS = 100
SHORT_PARAMETER = 250  # what servers of before 2.9 take

MetricValue = tuple[str, float, int, int]  # name, value, time in ms, step


class Writer:
    """What a server refuses for its content is noted and passed over: sending it again would not help, and
    it must not keep the rest from being sent. All other errors are raised."""

    def __init__(self, client: Any, note: Callable[[str], None]) -> None:
        self._client = client
        self._note = note

    def parameters(self, run_id: str | None, wanted: Mapping[str, str]) -> None:
        """Only those that the run has not: MLflow refuses to change one."""
        from mlflow.entities import Param

        there = self._client.get_run(run_id).data.params
        params = [Param(name, value) for name, value in wanted.items() if name not in there]
        for batch in _batches(params, MAX_PARAMETERS):
            if self._accepts(run_id, params=batch):
                continue
            for param in batch:
                short = Param(param.key, param.value[:SHORT_PARAMETER])
                if not self._accepts(run_id, params=[short]):
                    self._note(f"the server refuses the parameter {param.key}")

    def metrics(self, run_id: str | None, values: Sequence[MetricValue]) -> None:
        from mlflow.entities import Metric

        for batch in _batches([Metric(*value) for value in values], MAX_METRICS):
            if not self._accepts(run_id, metrics=batch):
                self._note(f"the server refuses {len(batch)} metrics from {batch[0].key} on")

    def datasets(self, run_id: str | None, items: Sequence[Mapping[str, str]], key: str) -> None:
        """`items` as `content.datasets` makes them; `key` is the data stage's."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = []
        for item in items:
            named = ("name", "digest", "source_type", "source", "profile")
            data = Dataset(**{name: item[name] for name in named})
            tags = [InputTag("mlflow.data.context", item["context"]), InputTag("distilc.key", key)]
            inputs.append(DatasetInput(data, tags))
        try:
            self._client.log_inputs(run_id, datasets=inputs)
        except Exception as error:
            if error_kind(error) != "refused":
                raise
            self._note(f"the server refuses the data sets: {error}")

    def _accepts(self, run_id: str | None, **batch: Sequence[Any]) -> bool:
        try:
            self._client.log_batch(run_id, **batch)
        except Exception as error:
            if error_kind(error) != "refused":
                raise
            self._note(f"refused: {error}")
            return False
        return True


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
