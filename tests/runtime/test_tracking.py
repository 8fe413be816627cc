"""Tracking against the real MLflow: the journal, SQLite, and a server that is away and comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distilc.runtime.plan.load import load_plan
from distilc.runtime.plan.plan import Plan, TrackingSite
from distilc.runtime.tracking import Tracker, TrackingResult, ui_command
from distilc.runtime.tracking.content import datasets, parameters, run_tags, shortened, summary_metrics
from distilc.runtime.tracking.journal import Journal
from distilc.runtime.tracking.machine import Machine
from distilc.runtime.tracking.record import Record, load_record
from distilc.runtime.tracking.run_folder import RunFolder
from distilc.runtime.tracking.sender import Sender
from distilc.runtime.tracking.server import artifact_location, database_fault, tracking_uri

pytestmark = pytest.mark.slow

SAMPLE = Path(__file__).with_name("sample_plan.json")
SUMMARY = {
    "name": "news-6-3",
    "teacher": {"rouge2": 20.0},
    "student": {"rouge2": 18.0},
    "retention": {"rouge2": 90.0},
    "speedup": 1.5,
    "parameters": {"teacher": 4000000, "student": 3000000},
}


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return load_plan(SAMPLE)


@pytest.fixture
def run_folder(tmp_path: Path, plan: Plan) -> Path:
    """A run folder with a compiled plan in it."""
    folder = tmp_path / "workspace" / "runs" / "news-6-3-d72fad02"
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(SAMPLE.read_text())
    (folder / "lock.yaml").write_text("packages: {}\n")
    (folder / "deepspeed.train.json").write_text("{}\n")
    return folder


def metric_line(step: int, **metrics: float) -> str:
    named = {name.replace("_", "/", 1): value for name, value in metrics.items()}
    return json.dumps({"time": 1700000000000 + step, "step": step, "metrics": named}) + "\n"


def publish(workspace: Path, stage: str, key: str, journal: str, **files: str) -> tuple[dict[str, Any], Path]:
    folder = workspace / "store" / key
    folder.mkdir(parents=True)
    if journal:
        (folder / "metrics.jsonl").write_text(journal)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    summary = {"train": {"examples": 12}} if stage == "data" else {"line": "words are no metric", "steps": 3}
    manifest = {"created": 1700000100.5, "seconds": 2.5, "summary": summary, "stage": stage}
    return manifest, folder


def lines_of(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if not any(name.startswith("system/") for name in line["metrics"])]


# --- the run's journal -----------------------------------------------------------------------------


def test_journal_copies_complete_lines_once(tmp_path: Path) -> None:
    source, path = tmp_path / "source.jsonl", tmp_path / "metrics.jsonl"
    journal = Journal(path)
    journal.copy_from("train", source)
    assert not path.exists()
    source.write_text(metric_line(1, loss=3.0) + metric_line(2, loss=2.0)[:-9])
    journal.copy_from("train", source)
    assert [line["step"] for line in lines_of(path)] == [1]
    source.write_text(metric_line(1, loss=3.0) + metric_line(2, loss=2.0))
    journal.copy_from("train", source)
    journal.copy_from("train", source)
    assert lines_of(path) == [
        {"time": 1700000000001, "step": 1, "stage": "train", "metrics": {"loss": 3.0}},
        {"time": 1700000000002, "step": 2, "stage": "train", "metrics": {"loss": 2.0}},
    ]


def test_journal_goes_on_after_a_kill_at_any_byte(tmp_path: Path) -> None:
    source, whole = tmp_path / "source.jsonl", tmp_path / "whole.jsonl"
    source.write_text("".join(metric_line(step, loss=float(step)) for step in range(3)))
    first = Journal(whole)
    first.copy_from("train", source)
    first.append([{"time": 1, "step": 0, "stage": "train", "metrics": {"system/cpu_percent": 3.0}}])
    data = whole.read_bytes()
    for end in range(len(data) + 1):
        killed = tmp_path / "killed.jsonl"
        killed.write_bytes(data[:end])
        assert Journal(killed).copy_from("train", source) is False
        assert [line["step"] for line in lines_of(killed)] == [0, 1, 2]


def test_journal_reads_on_in_the_published_folder(tmp_path: Path) -> None:
    work, artifact, path = tmp_path / "work.jsonl", tmp_path / "artifact.jsonl", tmp_path / "metrics.jsonl"
    journal = Journal(path)
    work.write_text(metric_line(1, loss=3.0))
    journal.copy_from("train", work)
    artifact.write_text(work.read_text() + metric_line(2, loss=2.0))
    work.unlink()
    assert journal.copy_from("train", work) is False
    assert journal.copy_from("train", artifact) is False
    assert [line["step"] for line in lines_of(path)] == [1, 2]


def test_journal_of_a_stage_begun_anew_replaces_the_old_lines(tmp_path: Path) -> None:
    source, path = tmp_path / "source.jsonl", tmp_path / "metrics.jsonl"
    source.write_text(metric_line(1, loss=3.0) + metric_line(2, loss=2.0))
    first = Journal(path)
    first.copy_from("train", source)
    first.append([{"time": 1, "step": 7, "stage": "data", "metrics": {"rows": 3.0}}])
    source.write_text(metric_line(1, loss=9.0))
    assert Journal(path).copy_from("train", source) is True
    assert [(line["stage"], line["metrics"]) for line in lines_of(path)] == [
        ("data", {"rows": 3.0}),
        ("train", {"loss": 9.0}),
    ]


def test_journal_skips_again_what_a_lost_disk_cache_took_from_the_source(tmp_path: Path) -> None:
    source, path = tmp_path / "source.jsonl", tmp_path / "metrics.jsonl"
    source.write_text("".join(metric_line(step, loss=1.0) for step in range(3)))
    Journal(path).copy_from("train", source)
    source.write_text(metric_line(0, loss=1.0))
    second = Journal(path)
    second.copy_from("train", source)
    source.write_text("".join(metric_line(step, loss=1.0) for step in range(4)))
    second.copy_from("train", source)
    assert [line["step"] for line in lines_of(path)] == [0, 1, 2, 3]


# --- what is told ----------------------------------------------------------------------------------


def test_parameters_are_flat_and_within_the_limits(plan: Plan) -> None:
    flat = parameters(plan)
    assert flat["student.decoder_layers"] == "3"
    assert flat["student.trainable_parameters"] == "1200000"
    assert flat["copy.decoder"] == "[0, 2, 5]"
    assert "stopping.max_steps" not in flat
    long = shortened({"a": {"b c?": "x" * 9000}, "list": [{"n": 1}]})
    assert long == {"a.b c_": "x" * 5997 + "...", "list": '[{"n": 1}]'}


def test_tags_say_technique_size_and_keys(plan: Plan) -> None:
    tags = run_tags(plan)
    assert (tags["distilc.technique"], tags["distilc.student"]) == ("sft", "6-3")
    assert tags["distilc.teacher"] == "../models/teacher"
    assert tags["distilc.key.train"] == "c6286083df4bf98264d8b68b4b489304a6fb750a654d33a418eee696b693f2aa"
    assert tags["team"] == "nlp"
    assert len(tags.get("mlflow.source.git.commit", "0" * 40)) == 40


def test_datasets_have_a_digest_for_each_split(plan: Plan) -> None:
    found = datasets(plan.stage("data"), {"train": {"examples": 12}})
    assert [(item["name"], item["context"]) for item in found] == [
        ("news.jsonl [train]", "training"),
        ("news.jsonl [validation]", "validation"),
        ("news.jsonl [test.test]", "test"),
    ]
    assert found[0]["digest"] == "a" * 36
    assert found[2]["digest"] != "c" * 36  # only its first 50 rows
    assert found[0]["profile"] == '{"examples": 12}'


def test_summary_metrics() -> None:
    assert summary_metrics(SUMMARY) == {
        "teacher/rouge2": 20.0,
        "student/rouge2": 18.0,
        "retention/rouge2": 90.0,
        "speedup": 1.5,
        "parameters/teacher": 4e6,
        "parameters/student": 3e6,
    }


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert tracking_uri("http://site", tmp_path) == "http://site"
    assert tracking_uri(None, tmp_path) == "http://elsewhere:5000"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    default = tracking_uri(None, tmp_path)
    assert default == f"sqlite:///{tmp_path}/mlflow.db"
    assert ui_command(default).endswith(f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db")
    assert ui_command("https://me:secret@host:1/x") == "https://***@host:1/x"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:se/cr@et@host/api?token=a")
    assert tracking_uri("https://host/api", tmp_path) == "https://me:se/cr@et@host/api?token=a"
    assert tracking_uri("https://host/other", tmp_path) == "https://host/other"
    assert artifact_location(default, tmp_path, "a b") == f"file://{tmp_path}/mlartifacts/a%20b"
    assert artifact_location("http://elsewhere:5000", tmp_path, "a") is None


@pytest.mark.parametrize("name", ["../../outside", "..", ".", "a/../../../outside", "/outside", "..\\..\\outside"])
def test_the_name_of_an_experiment_leads_nowhere(name: str, tmp_path: Path) -> None:
    from mlflow.utils.file_utils import local_file_uri_to_path

    location = artifact_location(f"sqlite:///{tmp_path}/workspace/mlflow.db", tmp_path / "workspace", name)
    assert location is not None
    folder = Path(os.path.normpath(local_file_uri_to_path(location)))
    assert folder.parent == tmp_path / "workspace" / "mlartifacts"


def test_a_stage_that_the_plan_has_no_more_is_sent_as_far_as_it_is_known(plan: Plan, run_folder: Path) -> None:
    """It was compiled for another site, which kept the teacher's states."""
    record = Record()
    manifest = {"created": 1700000100.5, "seconds": 2.5, "summary": {"bytes": 7}}
    record.stage_finished("signals-encoder", manifest, run_folder, cached=False)
    record.save(run_folder / "tracking.json")
    line = {"time": 1, "step": 0, "stage": "signals-encoder", "metrics": {"bytes": 7.0}}
    (run_folder / "metrics.jsonl").write_text(json.dumps(line) + "\n", "utf-8")
    done = drive(plan, run_folder)
    assert (done.pending, done.message) == (0, "")


# --- SQLite ----------------------------------------------------------------------------------------


def drive(
    plan: Plan, run_folder: Path, table: Path | None = None, status: Any = "FINISHED", wait: float = 60.0
) -> TrackingResult:
    """What the driver does when data and train are in the store."""
    workspace = run_folder.parents[1]
    if not (workspace / "store").exists():
        publish(workspace, "data", plan.stage("data").key, "")
        journal = "".join(metric_line(step, loss_total=3.0 - step) for step in range(3))
        publish(workspace, "train", plan.stage("train").key, journal, training__json='{"steps": 3}')
        sample = "".join(json.dumps({"id": row}) + "\n" for row in range(80))
        files = {"metrics__json": "{}", "predictions__test__jsonl": sample}
        publish(workspace, "evaluate-student", plan.stage("evaluate-student").key, metric_line(0, eval_rouge2=18.0), **files)
    tracker = Tracker(plan, run_folder, workspace)
    tracker.start()
    for stage in ("data", "train", "evaluate-student"):
        folder = workspace / "store" / plan.stage(stage).key
        manifest = {"created": 1700000100.5, "seconds": 2.5, "summary": {"train": {"examples": 12}}}
        tracker.stage_finished(stage, manifest, folder, cached=False)
    return tracker.finish(status, SUMMARY, [table] if table else [], wait)


def test_sqlite_run_is_written_and_continued(
    plan: Plan,
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    workspace = run_folder.parents[1]
    work = workspace / "store" / ".work" / "4" / "metrics.jsonl"
    work.parent.mkdir(parents=True)

    first = Tracker(plan, run_folder, workspace)  # interrupted in the middle of the train stage
    first.start()
    first.follow("train", work)
    first.stage_started(plan.stage("train"))
    work.write_text(metric_line(0, loss_total=3.0) + metric_line(1, loss_total=float("nan")))
    stopped = first.finish("KILLED", {}, [], 60.0)
    assert (stopped.pending, stopped.message) == (0, "")

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=stopped.uri)
    assert client.get_run(stopped.run_id).info.status == "KILLED"

    second = Tracker(plan, run_folder, workspace)
    second.start()
    second.follow("train", work)
    second.stage_started(plan.stage("train"))
    work.write_text(work.read_text() + metric_line(2, loss_total=1.0))
    manifest, folder = publish(workspace, "train", plan.stage("train").key, work.read_text(), training__json="{}")
    second.stage_finished("train", manifest, folder, cached=False)
    table = run_folder / "table.md"
    table.write_text("| a |\n")
    done = second.finish("FINISHED", SUMMARY, [table], 60.0)
    assert done == TrackingResult(stopped.run_id, f"sqlite:///{workspace}/mlflow.db", 0, "")
    assert second.run_id == stopped.run_id

    run = client.get_run(done.run_id)
    assert (run.info.status, run.data.metrics["retention/rouge2"]) == ("FINISHED", 90.0)
    experiment = client.get_experiment_by_name("news")
    assert experiment.artifact_location == f"file://{workspace}/mlartifacts/news"
    (child,) = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{done.run_id}'")
    assert (child.info.run_name, child.info.status) == ("train", "FINISHED")
    history = client.get_metric_history(child.info.run_id, "loss/total")
    # A NaN of an earlier version is no number that anybody could be told.
    assert [(metric.step, metric.timestamp) for metric in history] == [
        (step, 1700000000000 + step) for step in (0, 2)
    ]
    assert lines_of(run_folder / "metrics.jsonl")[1]["metrics"] == {"loss/total": None}
    assert len(lines_of(run_folder / "metrics.jsonl")) == 3
    assert list(elsewhere.iterdir()) == []
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == ""


def test_a_stage_computed_again_gets_a_new_nested_run(plan: Plan, run_folder: Path) -> None:
    workspace = run_folder.parents[1]
    first = drive(plan, run_folder)
    again = Tracker(plan, run_folder, workspace)
    again.start()
    again.stage_started(plan.stage("train"))
    folder = workspace / "store" / plan.stage("train").key
    (folder / "metrics.jsonl").write_text(metric_line(0, loss_total=7.0))
    manifest = {"created": 1700009999.0, "seconds": 2.5, "summary": {}}
    again.stage_finished("train", manifest, folder, cached=False)
    result = again.finish("FINISHED", SUMMARY, [], 60.0)
    assert (result.run_id, result.pending) == (first.run_id, 0)
    losses = [line["metrics"] for line in lines_of(run_folder / "metrics.jsonl") if line["stage"] == "train"]
    assert losses == [{"loss/total": 7.0}]

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=result.uri)
    runs = client.search_runs(["1"], "tags.`distilc.stage` = 'train'", order_by=["attributes.start_time"])
    histories = [client.get_metric_history(run.info.run_id, "loss/total") for run in runs]
    assert sorted(len(history) for history in histories) == [1, 3]
    superseded = [run for run in runs if run.data.tags.get("distilc.superseded")]
    assert [run.data.metrics["loss/total"] for run in superseded] == [1.0]


def test_a_second_driver_of_the_same_run_keeps_away(plan: Plan, run_folder: Path) -> None:
    workspace = run_folder.parents[1]
    manifest, folder = publish(workspace, "train", plan.stage("train").key, metric_line(0, loss_total=3.0))
    first, second = (Tracker(plan, run_folder, workspace) for _ in range(2))
    first.start()
    first.stage_finished("train", manifest, folder, cached=False)
    deadline = time.monotonic() + 30
    while not (run_folder / "metrics.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    second.start()
    second.stage_finished("train", manifest, folder, cached=False)
    other = second.finish("FINISHED", SUMMARY, [], 5.0)
    assert other.pending == 0
    assert "another process" in other.message
    assert first.finish("FINISHED", SUMMARY, [], 60.0).pending == 0
    assert len(lines_of(run_folder / "metrics.jsonl")) == 1


def test_lines_that_cannot_be_written_down_are_told(
    plan: Plan, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes all that there is, and is not asked for what is not there."""

    def full(journal: Journal, lines: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    result = drive(plan, run_folder)
    assert result.pending > 0 and "No space left on device" in result.message


def test_notes_are_fit_to_be_shown(run_folder: Path) -> None:
    RunFolder(run_folder).note("the server says \x1b[2J of https://me:s3cret@host")
    assert (run_folder / "tracking.log").read_text().endswith("the server says \\u001b[2J of https://***@host\n")


def test_an_unwritable_run_folder_is_a_message_not_an_error(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tracker = Tracker(plan, tmp_path / "file" / "run", tmp_path)
    tracker.start()
    result = tracker.finish("FINISHED", SUMMARY, [], 5.0)
    assert result.pending == 1
    assert "cannot write" in result.message


def test_runs_whose_creation_was_not_answered_are_found_again(plan: Plan, run_folder: Path) -> None:
    """And a database takes what it has once."""
    first = drive(plan, run_folder)
    record = json.loads((run_folder / "tracking.json").read_text())
    record["sent"] = {"server": "workspace", "runs": {}}  # as a kill just after the requests leaves it
    (run_folder / "tracking.json").write_text(json.dumps(record))
    again = drive(plan, run_folder)
    assert (again.run_id, again.pending) == (first.run_id, 0)

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=again.uri)
    assert len(client.search_runs(["1"])) == 4
    (train,) = client.search_runs(["1"], "tags.`distilc.stage` = 'train'")
    assert len(client.get_metric_history(train.info.run_id, "loss/total")) == 3
    assert train.info.status == "FINISHED"


def test_an_interrupted_stage_is_killed_a_failed_one_failed(tmp_path: Path) -> None:
    for status, expected in (("KILLED", "KILLED"), ("FAILED", "FAILED")):
        record = Record()
        record.stage_started("data")
        record.stage_failed("data", "stopped")
        record.finished(status, {}, [])
        assert (record.state, record.stages["data"].state) == (status, expected)
        record.save(tmp_path / "tracking.json")
        assert load_record(tmp_path / "tracking.json") == record


def test_machine_counts_gpus_when_the_library_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Machine().sample()
    assert plain["memory_gb"] > 0
    assert 0 <= plain["cpu_percent"] <= 100
    library = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUtilizationRates=lambda gpu: SimpleNamespace(gpu=87),
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=5 * 10**9),
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    sample = Machine().sample()
    assert (sample["gpu_0_percent"], sample["gpu_0_memory_gb"]) == (87.0, 5.0)


# --- a server --------------------------------------------------------------------------------------


class Server:
    """`mlflow server` on a free port, started and stopped at will; asked through its REST API."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port),
            "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
            "--artifacts-destination", str(self.folder / "artifacts"), "--workers", "1",
        ]  # fmt: skip
        environment = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        log = (self.folder / "server.log").open("wb")
        self.process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(self.uri + "/health", timeout=2).read()
                return
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.uri}/{path}", data, {"Content-Type": "application/json"} if body is not None else {}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read().decode()
        return text if path.startswith("get-artifact") else json.loads(text)

    def runs(self, experiment: str) -> list[dict[str, Any]]:
        found = self.ask("api/2.0/mlflow/runs/search", {"experiment_ids": [experiment], "max_results": 100})
        runs: list[dict[str, Any]] = found.get("runs", [])
        return runs


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    yield server
    server.stop()


def test_server_away_then_back(plan: Plan, run_folder: Path, server: Server) -> None:
    plan = replace(plan, site=replace(plan.site, tracking=TrackingSite(uri=server.uri)))
    table = run_folder / "table.md"
    table.write_text("| a |\n")
    began = time.monotonic()
    away = drive(plan, run_folder, table)
    assert time.monotonic() - began < 50
    assert away.run_id is None
    assert away.pending > 0
    assert "4 metric lines" in away.message
    assert server.uri in away.message
    assert len(lines_of(run_folder / "metrics.jsonl")) == 4

    server.start()
    back = drive(plan, run_folder, table)
    assert (back.pending, back.message) == (0, "")
    experiment = server.ask("api/2.0/mlflow/experiments/get-by-name?experiment_name=news")["experiment"]
    runs = {run["info"]["run_name"]: run for run in server.runs(experiment["experiment_id"])}
    assert set(runs) == {"news-6-3", "data", "train", "evaluate-student"}
    assert {run["info"]["status"] for run in runs.values()} == {"FINISHED"}
    parent = runs.pop("news-6-3")
    assert parent["info"]["run_id"] == back.run_id
    params = {item["key"]: item["value"] for item in parent["data"]["params"]}
    assert params["student.decoder_layers"] == "3"
    metrics = {item["key"]: item["value"] for item in parent["data"]["metrics"]}
    assert metrics["speedup"] == 1.5
    inputs = [item["dataset"]["name"] for item in parent["inputs"]["dataset_inputs"]]
    assert sorted(inputs) == ["news.jsonl [test.test]", "news.jsonl [train]", "news.jsonl [validation]"]
    for run in runs.values():
        tags = {item["key"]: item["value"] for item in run["data"]["tags"]}
        assert tags["mlflow.parentRunId"] == back.run_id
    train, evaluate = runs["train"]["info"]["run_id"], runs["evaluate-student"]["info"]["run_id"]
    learning = {item["key"]: item["value"] for item in runs["train"]["data"]["params"]}["learning_rate"]
    assert learning == "0.0003"
    assert files(server, back.run_id) == {"plan", "summary.json", "table.md"}
    assert files(server, back.run_id, "plan") == {
        "plan/plan.json", "plan/lock.yaml", "plan/deepspeed.train.json", "plan/spec.resolved.json",
    }  # fmt: skip
    assert json.loads(artifact(server, back.run_id, "summary.json"))["mlflow_run_id"] == back.run_id
    assert len(artifact(server, evaluate, "predictions.test.jsonl").splitlines()) == 50

    server.ask("api/2.0/mlflow/runs/delete", {"run_id": evaluate})  # one nested run goes ...
    again = drive(plan, run_folder, table)
    assert (again.run_id, again.pending) == (back.run_id, 0)
    there = {run["info"]["run_name"]: run["info"] for run in server.runs(experiment["experiment_id"])}
    assert there["evaluate-student"]["run_id"] != evaluate
    assert there["train"]["run_id"] == train
    history = server.ask(f"api/2.0/mlflow/metrics/get-history?run_id={train}&metric_key=loss/total")
    assert [item["step"] for item in history["metrics"]] == [0, 1, 2]
    assert there["news-6-3"]["end_time"] == parent["info"]["end_time"]

    server.ask("api/2.0/mlflow/runs/delete", {"run_id": back.run_id})  # ... then the whole run
    anew = drive(plan, run_folder, table)
    assert anew.pending == 0
    assert anew.run_id != back.run_id
    parents = {
        tag["value"]
        for run in server.runs(experiment["experiment_id"])
        for tag in run["data"]["tags"]
        if tag["key"] == "mlflow.parentRunId"
    }
    assert anew.run_id in parents


def test_a_server_that_lost_what_it_was_sent_is_told(plan: Plan, run_folder: Path) -> None:
    """Nothing is left to send, and nothing can be seen there."""
    from mlflow.tracking import MlflowClient

    first = drive(plan, run_folder)
    assert (first.pending, first.message) == (0, "")
    experiment = MlflowClient(tracking_uri=first.uri).get_experiment_by_name("news")
    assert experiment is not None
    MlflowClient(tracking_uri=first.uri).delete_experiment(experiment.experiment_id)
    deleted = drive(plan, run_folder)
    assert "the experiment 'news' was deleted there" in deleted.message
    MlflowClient(tracking_uri=first.uri).restore_experiment(experiment.experiment_id)
    assert drive(plan, run_folder).message == ""
    database = run_folder.parents[1] / "mlflow.db"
    database.write_bytes(b"garbage " * 1000)
    garbage = drive(plan, run_folder)
    assert "could not be asked whether it still has what it was sent" in garbage.message
    assert "file is not a database" in garbage.message


def test_why_nothing_was_sent_is_looked_for_where_mlflow_has_no_time_to_say_it(
    plan: Plan, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine so busy that MLflow does not come up before the wait is over."""
    database = run_folder.parents[1] / "mlflow.db"
    held = threading.Event()
    monkeypatch.setattr(Sender, "sync", lambda self: held.wait(60))

    def told() -> str:
        tracker = Tracker(plan, run_folder, run_folder.parents[1])
        tracker.start()
        result = tracker.finish("FINISHED", SUMMARY, [], 0.2)
        held.set()
        tracker._thread.join(30)
        tracker._folder.close()
        held.clear()
        assert bool(database_fault(result.uri)) == (not database.is_file() or b"garbage" in database.read_bytes())
        return result.message

    assert f"({database} is not there, and there was too little time to make it)" in told()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE experiments (name TEXT, lifecycle_stage TEXT)")
    assert "(it had too little time)" in told()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO experiments VALUES ('news', 'deleted')")
    assert "(the experiment 'news' was deleted there; restore it or name another one)" in told()
    database.write_bytes(b"garbage " * 1000)
    assert f"({database}: file is not a database)" in told()


def test_a_server_that_never_answers_holds_nobody_up(plan: Plan, run_folder: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        uri = f"http://me:secret@127.0.0.1:{deaf.getsockname()[1]}"
        began = time.monotonic()
        result = drive(replace(plan, site=replace(plan.site, tracking=TrackingSite(uri=uri))), run_folder, wait=2.0)
        assert time.monotonic() - began < 20
        assert result.pending > 0
        assert len(lines_of(run_folder / "metrics.jsonl")) == 4
        written = [result.uri + result.message]
        written += [file.read_text() for file in run_folder.iterdir() if file.name != "plan.json"]
        assert not [text for text in written if "secret" in text]


def files(server: Server, run_id: str | None, path: str = "") -> set[str]:
    found = server.ask(f"api/2.0/mlflow/artifacts/list?run_id={run_id}&path={path}")
    return {item["path"] for item in found["files"]}


def artifact(server: Server, run_id: str | None, path: str) -> str:
    return str(server.ask(f"get-artifact?run_uuid={run_id}&path={path}"))
