"""Makes MLflow's runs equal to the record of a run. Whatever fails is tried again by the next call.

Sending twice does no harm: runs are found again by a tag, parameters and tags are the same, files are replaced, and a
database takes a metric of the same name, step, time and value once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from ..messages.credentials import redact
from ..plan.plan import Plan
from . import content
from .batches import log_datasets, log_metrics, log_parameters
from .record import Record, Sent, SentRun, StageRecord
from .run_folder import RunFolder
from .server import artifact_location, connect, deleted

LINES = 100  # of the journal that are sent, and written down as sent, at a time
TOKEN = "distilc.token"


class Sender:
    """One tracking server and one run folder. Not for several threads."""

    def __init__(self, plan: Plan, uri: str, workspace: Path, folder: RunFolder) -> None:
        self.plan = plan
        self.uri = uri
        self.workspace = workspace
        self.folder = folder
        default = f"sqlite:///{workspace.resolve()}/mlflow.db"
        self.server = "workspace" if uri == default else redact(uri)
        self.run_id: str | None = None
        self._stages = {stage.id: stage for stage in plan.stages}
        self._client: Any = None
        self._experiment = ""
        self._there: dict[str, str] | None = None  # token -> MLflow run, of those that the server has; None: ask
        self._sent = Sent()

    def sync(self) -> None:
        """Send all that the server does not know yet. Raises what MLflow raises."""
        try:
            record = self.folder.record()
            if self._client is None:
                self._client = connect(self.uri)
            if self._there is None:
                self._look(record)
            self._send(record)
        except Exception:
            self._there = None  # a run may have been deleted, or created without an answer
            raise

    def pending(self) -> tuple[int, int, int]:
        """(metric lines, files, runs whose end) the server does not know yet."""
        record = self.folder.record()
        runs = record.sent.runs if record.sent.server == self.server else {}
        nothing = SentRun("")
        known = {id: runs.get(id, nothing) for id in ("", *record.stages)}
        for id, stage in record.stages.items():
            if known[id].attempt != stage.attempt:
                known[id] = nothing
        lines = sum(max(0, number - known[id].lines) for id, number in self.folder.num_lines().items())
        files = sum(name not in known[id].sent for id, name, _ in self._files(record))
        states = {"": record.state, **{id: stage.state for id, stage in record.stages.items()}}
        return lines, files, sum(known[id].state != state for id, state in states.items())

    # --- runs ------------------------------------------------------------------------------------

    def _look(self, record: Record) -> None:
        """What of this run does the server have? What is not there (any more) is sent again."""
        self._experiment = self._experiment_id()
        ours = f"tags.`{TOKEN}` LIKE '{record.token}%'"
        found = self._client.search_runs([self._experiment], ours, max_results=1000)
        self._there = {run.data.tags[TOKEN]: run.info.run_id for run in found}
        there = set(self._there.values())
        runs = record.sent.runs if record.sent.server == self.server else {}
        if "" in runs and runs[""].run_id not in there:
            runs = {}  # its stages are to become children of the one that is created instead
        self._sent = Sent(self.server, {id: run for id, run in runs.items() if run.run_id in there})

    def _experiment_id(self) -> str:
        name = self.plan.tracking.experiment
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                location = artifact_location(self.uri, self.workspace, name)
                return str(self._client.create_experiment(name, artifact_location=location))
            except Exception:
                found = self._client.get_experiment_by_name(name)  # another run was faster
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise RuntimeError(deleted(name))
        return str(found.experiment_id)

    def _run(self, record: Record, id: str) -> SentRun:
        """The MLflow run of a stage, or the parent run (''): there, and running while the stage is."""
        assert self._there is not None
        state: Record | StageRecord = record.stages[id] if id else record
        attempt = state.attempt if isinstance(state, StageRecord) else 0
        token = f"{record.token}/{id}/{attempt}" if id else record.token
        run = self._sent.runs.get(id)
        if run is not None and run.attempt != attempt:
            self._client.set_tag(run.run_id, "distilc.superseded", "true")
            if run.state == "RUNNING":
                self._client.set_terminated(run.run_id, "KILLED")
            run = None
        if run is None and token in self._there:
            run = SentRun(self._there[token], attempt)
            for name, value in self._tags(record, id).items():  # its parent may be another one now
                self._client.set_tag(run.run_id, name, value)
        elif run is None:
            tags = {**self._tags(record, id), TOKEN: token}
            name = id or self.plan.name
            created = self._client.create_run(self._experiment, start_time=state.started, tags=tags, run_name=name)
            run = SentRun(created.info.run_id, attempt, "RUNNING")
            self._there[token] = run.run_id
        if self._sent.runs.get(id) is not run:
            self._sent.runs[id] = run
            self.folder.commit(self._sent)
        if state.state == "RUNNING" != run.state:
            self._client.update_run(run.run_id, status="RUNNING")
            run.state = "RUNNING"
        return run

    def _tags(self, record: Record, id: str) -> dict[str, str]:
        if not id:
            return content.run_tags(self.plan)
        # A plan that was compiled for another site may have had more stages (signals).
        tags = content.stage_tags(self._stages[id]) if id in self._stages else {"distilc.stage": id}
        cached = {"distilc.cached": "true"} if record.stages[id].cached else {}
        return {"mlflow.parentRunId": self._sent.runs[""].run_id, **tags, **cached}

    def _send(self, record: Record) -> None:
        whole = self._run(record, "")
        self.run_id = whole.run_id
        self._once(whole, "parameters", content.parameters(self.plan), self._log_parameters)
        for id in record.stages:
            run = self._run(record, id)
            if id in self._stages:
                self._once(run, "parameters", content.stage_parameters(self._stages[id]), self._log_parameters)
        self._send_datasets(whole, record)
        for id, stage in record.stages.items():
            self._send_lines(id, self._sent.runs[id])
            self._end_stage(self._sent.runs[id], stage)
        metrics = content.summary_metrics(record.summary)
        if metrics:
            self._once(whole, "summary", metrics, partial(self._log_results, ended=record.ended))
        self.folder.commit(self._sent)
        try:
            self._send_files(whole, record)
        finally:  # a file that cannot be sent does not keep the run open
            if record.state not in ("RUNNING", whole.state):
                self._client.set_terminated(whole.run_id, record.state, record.ended)
                whole.state = record.state
            self.folder.commit(self._sent)

    def _end_stage(self, run: SentRun, stage: StageRecord) -> None:
        if stage.state in ("RUNNING", run.state):
            return
        if stage.state == "FINISHED":
            results = content.numbers(stage.summary) | {"stage/seconds": stage.seconds or 0.0}
            self._log_results(run.run_id, results, stage.ended)
        elif stage.message:
            self._client.set_tag(run.run_id, "distilc.message", redact(stage.message)[: content.MAX_TAG])
        self._client.set_terminated(run.run_id, stage.state, stage.ended)
        run.state = stage.state
        self.folder.commit(self._sent)

    # --- what is in the runs ---------------------------------------------------------------------

    def _once(self, run: SentRun, name: str, value: Any, send: Callable[[str, Any], None]) -> None:
        """`send(run id, value)`, unless the run has it."""
        mark = hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()
        if run.sent.get(name) != mark:
            send(run.run_id, value)
            run.sent[name] = mark

    def _log_parameters(self, run_id: str, values: dict[str, str]) -> None:
        log_parameters(self._client, run_id, values, self.folder.note)

    def _log_results(self, run_id: str, results: dict[str, float], ended: int | None) -> None:
        values = [(name, value, ended or 0, 0) for name, value in results.items()]
        log_metrics(self._client, run_id, values, self.folder.note)

    def _send_datasets(self, run: SentRun, record: Record) -> None:
        stage = record.stages.get("data")
        if stage is None or stage.state != "FINISHED" or "datasets" in run.sent:
            return
        planned = self._stages["data"]
        send = partial(log_datasets, self._client, key=planned.key, note=self.folder.note)
        self._once(run, "datasets", content.datasets(planned, stage.summary), send)

    def _send_lines(self, id: str, run: SentRun) -> None:
        while lines := self.folder.lines(id, run.attempt, run.lines, LINES):
            values = [
                (content.entity_name(name), float(value), int(line["time"] or 0), int(line["step"] or 0))
                for line in lines
                for name, value in line["metrics"].items()
                if value is not None
            ]
            log_metrics(self._client, run.run_id, values, self.folder.note)
            run.lines += len(lines)
            self.folder.commit(self._sent)

    def _files(self, record: Record) -> Iterable[tuple[str, str, Path]]:
        """(stage, path among the artifacts, file): the compiled plan, the results of finished stages, and what the
        driver gave at the end."""
        for path in content.plan_files(self.folder.path):
            yield "", f"plan/{path.name}", path
        for id, stage in record.stages.items():
            if stage.state == "FINISHED" and stage.folder is not None and id in self._stages:
                for path in content.stage_files(self._stages[id].kind, Path(stage.folder)):
                    yield id, path.name, path
        for name in record.artifacts:
            if (path := Path(name)).is_file():
                yield "", path.name, path

    def _send_files(self, whole: SentRun, record: Record) -> None:
        texts = []
        for id, name, path in self._files(record):
            try:
                if path.suffix == ".png":
                    self._send_figure(self._sent.runs[id], path)
                    continue
                texts.append((self._sent.runs[id], name, content.file_text(path)))
            except OSError:
                continue  # removed from the store meanwhile
        texts.append((whole, "plan/spec.resolved.json", redact(_json(self.plan.spec))))
        if record.summary:
            texts.append((whole, "summary.json", _json({**record.summary, "mlflow_run_id": whole.run_id})))
        for run, name, text in texts:
            self._once(run, name, text, partial(self._client.log_text, artifact_file=name))

    def _send_figure(self, run: SentRun, path: Path) -> None:
        """MLflow shows a figure by the end of its name; whether the run has it is seen by its bytes."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self._once(run, path.name, digest, lambda run_id, _: self._client.log_artifact(run_id, str(path)))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, default=str, allow_nan=False) + "\n"
