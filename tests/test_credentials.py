"""Users, passwords and tokens of addresses: in no plan, in no message, handed over by the environment alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from distilc.compiler.cli import distilc
from distilc.compiler.diagnostics import credentials as of_compiler
from distilc.runtime.failure import Failure
from distilc.runtime.messages import credentials as of_runtime
from distilc.runtime.messages.notices import Notice, Notices
from distilc.runtime.plan.load import load_plan
from distilc.runtime.tracking.server import tracking_uri

ROOT = Path(__file__).resolve().parent.parent
SECRET = "s3cret"
ADDRESSES = {  # as written -> as a plan has it
    f"https://me:{SECRET}@host/api": "https://host/api",
    f"https://me:a/{SECRET}@host/api": "https://host/api",
    f"https://me:a@{SECRET}@host:5000/api?x=1": "https://host:5000/api?x=1",
    f"https://me:a?{SECRET}@host/api": "https://host/api",
    f"https://{SECRET}@host": "https://host",
    f"https://host/api?token={SECRET}&x=1": "https://host/api?x=1",
    f"https://host/api?x=1&api_key={SECRET}": "https://host/api?x=1",
    f"postgresql+psycopg2://me:{SECRET}@host:5432/db?sslmode=require": "postgresql+psycopg2://host:5432/db?sslmode=require",
    f"postgresql://host/db?user=me&password={SECRET}": "postgresql://host/db?user=me",
    f"http://host/#{SECRET}": "http://host/",
    f"https://host:5000/api?x=1#{SECRET}": "https://host:5000/api?x=1",
    f"https://me:a#{SECRET}@host/api": "https://host/api",
    f"https://me:a@host/api#{SECRET}": "https://host/api",
    f"https://host/#{SECRET}@x": "https://host/",
}
HARMLESS = [
    "https://host:5000/api", "sqlite:////home/me@work/mlflow.db", "sqlite:///x.db?mode=rw", "file:///home/me@work/x",
    "./mlruns", "databricks", "sqlite:////work#1/x.db", "http://host/x?user=a@b",
]  # fmt: skip
HALVES = [of_compiler, of_runtime]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_without_its_secrets(half: Any, address: str) -> None:
    assert half.without_credentials(address) == ADDRESSES[address]
    told = half.redact(f'cannot reach "{address}": refused; see {address}, line 3')
    assert SECRET not in told and "***" in told and told.endswith("line 3")


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("address", HARMLESS)
def test_an_address_that_has_none_stays(half: Any, address: str) -> None:
    assert half.without_credentials(address) == address


@pytest.mark.parametrize("half", HALVES)
def test_the_path_of_a_request_is_one_too(half: Any) -> None:
    told = half.redact(f"HTTPConnectionPool(host='h', port=1): Max retries exceeded with url: /api?token={SECRET} (x)")
    assert SECRET not in told and told.endswith(" (x)")


def test_both_halves_have_the_same_function() -> None:
    assert Path(of_compiler.__file__ or "").read_text() == Path(of_runtime.__file__ or "").read_text()


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_plan_holds_none_and_the_run_gets_them(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    (tmp_path / "site.yaml").write_text(f'tracking: {{uri: "{address}"}}\n')
    spec = str(ROOT / "specs" / "quickstart.yaml")
    result = CliRunner().invoke(distilc, ["compile", "--site", "site.yaml", "-o", "plans", spec])
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "plans").iterdir()
    plan = load_plan(folder)
    assert plan.site.tracking.uri == ADDRESSES[address]
    for file in (*folder.iterdir(), *(tmp_path / ".distilc").rglob("*.json")):
        assert SECRET not in file.read_text("utf-8"), file

    handed: list[str] = []

    def become(program: str, words: list[str]) -> None:
        handed.append(tracking_uri(plan.site.tracking.uri, tmp_path))
        assert SECRET not in " ".join(words) and os.environ["MLFLOW_TRACKING_URI"] == address
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", become)
    assert CliRunner().invoke(distilc, ["run", "--site", "site.yaml", spec]).exit_code == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    monkeypatch.setenv("DISTILC_SITE", "site.yaml")  # of a plan, the site of this machine
    assert CliRunner().invoke(distilc, ["run", str(folder)]).exit_code == 0
    assert handed == [address, address]


def test_a_plan_with_a_password_is_refused(tmp_path: Path) -> None:
    import json

    tree = json.loads((ROOT / "tests" / "runtime" / "sample_plan.json").read_text("utf-8"))
    tree["site"]["tracking"]["uri"] = f"https://me:{SECRET}@host"
    (tmp_path / "plan.json").write_text(json.dumps(tree))
    with pytest.raises(Failure) as told:
        load_plan(tmp_path)
    assert told.value.code == "R111" and SECRET not in told.value.message


def test_messages_hold_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"https://me:a/{SECRET}@host"
    failure = Failure("R201", f"cannot reach {address}", f"try {address}")
    assert SECRET not in str(failure) + failure.message + failure.hint
    Notices(tmp_path / "kept.jsonl").add(Notice("R213", f"of {address}", address, "data"))
    assert SECRET not in (tmp_path / "kept.jsonl").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.yaml").write_text(f'tracking: {{uri: "{address}", url: "{address}"}}\n')
    for form in ("text", "json", "github"):
        words = ["check", "--format", form, "--site", "site.yaml", str(ROOT / "specs" / "quickstart.yaml")]
        result = CliRunner().invoke(distilc, words)
        assert result.exit_code == 1 and "E201" in result.output and SECRET not in result.output
