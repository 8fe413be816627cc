"""Makes MLflow's runs equal to the record of a run. Whatever fails is tried again by the next call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..messages.credentials import redact
from ..plan import Plan
from . import content
from .ledger import Ledger, Snapshot
from .outgoing import Texts, outgoing_files
from .record import Record, Sent, SentStage, StageRecord
from .run_journal import Line
from .server import artifact_location, connect, deleted, error_kind
from .writer import MAX_METRICS, MetricValue, Writer


class Sender:
    """One tracking server and one run folder. Not for several threads."""

    def __init__(self, plan: Plan, uri: str, workspace: Path, ledger: Ledger) -> None:
        self.plan = plan
        self.uri = uri
        self.workspace = workspace
        self.ledger = ledger
        default = f"sqlite:///{workspace.resolve()}/mlflow.db"
        self.server = "workspace" if uri == default else redact(uri)
        self.run_id: str | None = None
        self._client: Any = None
        self._writer: Any = None
        self._sent = Sent()
        self._verified = False
        self._position = 0
        self._generation = 0
        self._passed: dict[str, int] = {}
        self._texts = Texts()

    def sync(self) -> None:
        """Send all that the server does not know yet. Raises what MLflow raises."""
        if self._client is None:
            self._client = connect(self.uri)
            self._writer = Writer(self._client, self.ledger.note)
        if not self._verified:
            self._sent = self.ledger.sent(self.server)
            self._verify()
        try:
            self._send(self.ledger.snapshot())
        except Exception as error:
            if error_kind(error) != "gone":
                raise
            self._verify()  # somebody deleted a run while we were writing to it
            self._send(self.ledger.snapshot())

    def pending(self) -> tuple[int, int, int]:
        """(metric lines, files, runs whose end) the server does not know yet."""
        snapshot = self.ledger.snapshot()
        sent = snapshot.record.servers.get(self.server, Sent())
        lines = sum(
            max(0, number - _sent_stage(sent, snapshot.record, id).lines) for id, number in snapshot.num_lines.items()
        )
        files = sum(
            item.path.is_file() and item.key not in sent.files
            for item in outgoing_files(self.plan, self.ledger.run_folder, snapshot.record)
        )
        runs = int(sent.state != snapshot.record.state) + sum(
            _sent_stage(sent, snapshot.record, id).state != stage.state for id, stage in snapshot.record.stages.items()
        )
        return lines, files, runs

    # --- runs ------------------------------------------------------------------------------------

    def _verify(self) -> None:
        """Is what we sent earlier still there? What is not is sent again."""
        sent = self._sent
        if sent.run_id is not None:
            try:
                alive = self._client.get_run(sent.run_id).info.lifecycle_stage == "active"
            except Exception as error:
                if error_kind(error) != "gone":
                    raise
                alive = False
            if alive:
                parent = f"tags.`mlflow.parentRunId` = '{sent.run_id}'"
                children = self._client.search_runs([sent.experiment_id], parent, max_results=1000)
                there = {run.info.run_id for run in children}
                for id, stage in list(sent.stages.items()):
                    if stage.run_id is not None and stage.run_id not in there:
                        self._restart_stage(sent, id, SentStage(attempt=stage.attempt))
            else:
                self.ledger.note(f"the MLflow run {sent.run_id} is gone from {self.server}: sending all again")
                self._sent = Sent()
                self._rewind()
        self._verified = True

    def _send(self, snapshot: Snapshot) -> None:
        record, sent = snapshot.record, self._sent
        if sent.experiment_id is None:
            sent.experiment_id = self._experiment()
        if sent.run_id is None:
            name, tags = self.plan.name, content.run_tags(self.plan)
            sent.run_id = self._create(sent, sent.token, name, record.started, tags)
            sent.state = "RUNNING"
            self.ledger.commit(self.server, self._sent)
        self.run_id = sent.run_id
        if not sent.described:
            self._writer.parameters(sent.run_id, content.parameters(self.plan))
            sent.described = True
        if record.state == "RUNNING" != sent.state:
            self._client.update_run(sent.run_id, status="RUNNING")
            sent.state = "RUNNING"
        for id, stage in record.stages.items():
            self._send_stage(sent, id, stage)
        self._send_datasets(sent, record)
        self.ledger.commit(self.server, self._sent)
        self._send_metrics(sent, snapshot)
        for id, stage in record.stages.items():
            self._end_stage(sent.stages[id], stage)
        self._send_summary(sent, record)
        self.ledger.commit(self.server, self._sent)
        try:
            self._send_files(sent, record)
        finally:  # a file that cannot be sent does not keep the run open
            if record.state not in ("RUNNING", sent.state):
                self._client.set_terminated(sent.run_id, record.state, record.ended)
                sent.state = record.state
            self.ledger.commit(self.server, self._sent)

    def _experiment(self) -> str:
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

    def _create(self, entry: Sent | SentStage, token: str, name: str, started: int, tags: dict[str, str]) -> str:
        """Create a run, or find the one whose creation a crash or a timeout left unanswered."""
        experiment = self._sent.experiment_id
        if entry.creating:
            found = self._client.search_runs([experiment], f"tags.`distilc.token` = '{token}'", max_results=1)
            if found:
                entry.creating = False
                return str(found[0].info.run_id)
        entry.creating = True
        self.ledger.commit(self.server, self._sent)
        tags = {**tags, "distilc.token": token}
        run = self._client.create_run(experiment, start_time=started, tags=tags, run_name=name)
        entry.creating = False
        return str(run.info.run_id)

    def _send_stage(self, sent: Sent, id: str, stage: StageRecord) -> None:
        """The stage's nested run: there, described, and running while the stage is."""
        entry = sent.stages.get(id)
        if entry is None or entry.attempt != stage.attempt:
            if entry is not None and entry.run_id is not None:
                self._client.set_tag(entry.run_id, "distilc.superseded", "true")
                if entry.state == "RUNNING":
                    self._client.set_terminated(entry.run_id, "KILLED")
            entry = self._restart_stage(sent, id, SentStage(attempt=stage.attempt))
        # None: the plan had it when it was compiled for another site (signals).
        planned = next((found for found in self.plan.stages if found.id == id), None)
        if entry.run_id is None:
            assert sent.run_id is not None
            described = {"distilc.stage": id} if planned is None else content.stage_tags(planned)
            tags = {"mlflow.parentRunId": sent.run_id, **described}
            if stage.cached:
                tags["distilc.cached"] = "true"
            entry.run_id = self._create(entry, f"{sent.token}/{id}/{stage.attempt}", id, stage.started, tags)
            entry.state = "RUNNING"
            self.ledger.commit(self.server, self._sent)
        if not entry.described and planned is not None:
            self._writer.parameters(entry.run_id, content.stage_parameters(planned))
            entry.described = True
        if stage.state == "RUNNING" != entry.state:
            self._client.update_run(entry.run_id, status="RUNNING")
            entry.state = "RUNNING"

    def _restart_stage(self, sent: Sent, id: str, entry: SentStage) -> SentStage:
        sent.stages[id] = entry
        sent.files = {key: value for key, value in sent.files.items() if key.partition("|")[0] != id}
        self._rewind()
        return entry

    def _end_stage(self, entry: SentStage, stage: StageRecord) -> None:
        if stage.state in ("RUNNING", entry.state):
            return
        if stage.state == "FINISHED":
            results = content.numbers(stage.summary) | {"stage/seconds": stage.seconds or 0.0}
            self._writer.metrics(entry.run_id, _at_end(results, stage.ended))
        elif stage.message:
            self._client.set_tag(entry.run_id, "distilc.message", redact(stage.message)[: content.MAX_TAG])
        self._client.set_terminated(entry.run_id, stage.state, stage.ended)
        entry.state = stage.state
        self.ledger.commit(self.server, self._sent)

    # --- what is in the runs ---------------------------------------------------------------------

    def _send_datasets(self, sent: Sent, record: Record) -> None:
        stage = record.stages.get("data")
        if sent.datasets or stage is None or stage.state != "FINISHED":
            return
        planned = self.plan.stage("data")
        self._writer.datasets(sent.run_id, content.datasets(planned, stage.summary), planned.key)
        sent.datasets = True

    def _send_metrics(self, sent: Sent, snapshot: Snapshot) -> None:
        if snapshot.generation != self._generation:
            self._rewind()
            self._generation = snapshot.generation
        while True:
            chunk = self.ledger.lines(self._position, snapshot.generation)
            if chunk is None or not chunk[0]:
                return
            passed = dict(self._passed)
            waiting: dict[str, list[Line]] = {}
            for line in chunk[0]:
                id = line["stage"]
                if id not in snapshot.record.stages:
                    return  # came after the snapshot
                passed[id] = passed.get(id, 0) + 1
                if passed[id] > sent.stages[id].lines:
                    waiting.setdefault(id, []).append(line)
            for id, lines in waiting.items():
                self._send_lines(sent.stages[id], lines)
            self._position, self._passed = chunk[1], passed

    def _send_lines(self, entry: SentStage, lines: Sequence[Line]) -> None:
        batch: list[MetricValue] = []
        num_lines = 0
        for number, line in enumerate(lines, 1):
            batch += [
                (content.entity_name(name), float(value), int(line["time"] or 0), int(line["step"] or 0))
                for name, value in line["metrics"].items()
                if value is not None
            ]
            num_lines += 1
            if len(batch) >= MAX_METRICS - 50 or number == len(lines):
                self._writer.metrics(entry.run_id, batch)
                entry.lines += num_lines
                batch, num_lines = [], 0
        self.ledger.commit(self.server, self._sent)

    def _send_summary(self, sent: Sent, record: Record) -> None:
        metrics = content.summary_metrics(record.summary)
        mark = _sha256(json.dumps(metrics, sort_keys=True, allow_nan=False))
        if not metrics or sent.summary == mark:
            return
        self._writer.metrics(sent.run_id, _at_end(metrics, record.ended))
        sent.summary = mark

    # --- files -----------------------------------------------------------------------------------

    def _send_files(self, sent: Sent, record: Record) -> None:
        for item in outgoing_files(self.plan, self.ledger.run_folder, record):
            run_id = sent.run_id if item.stage is None else sent.stages[item.stage].run_id
            try:
                text = self._texts.read(item.path)
            except OSError:
                continue  # removed from the store meanwhile
            self._send_text(run_id, item.key, text)
        self._send_text(sent.run_id, "|plan/spec.resolved.json", redact(_json(self.plan.spec)))
        if record.summary:
            self._send_text(sent.run_id, "|summary.json", _json({**record.summary, "mlflow_run_id": sent.run_id}))

    def _send_text(self, run_id: str | None, key: str, text: str) -> None:
        mark = _sha256(text)
        if self._sent.files.get(key) != mark:
            self._client.log_text(run_id, text, key.partition("|")[2])
            self._sent.files[key] = mark

    def _rewind(self) -> None:
        self._position = 0
        self._passed = {}


def _sent_stage(sent: Sent, record: Record, id: str) -> SentStage:
    """What is known of the stage's present attempt."""
    entry, stage = sent.stages.get(id), record.stages.get(id)
    return entry if entry and stage and entry.attempt == stage.attempt else SentStage()


def _at_end(values: Mapping[str, float], ended: int | None) -> list[MetricValue]:
    return [(name, value, ended or 0, 0) for name, value in values.items()]


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, default=str, allow_nan=False) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
