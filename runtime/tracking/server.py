"""Which tracking server, how to reach it without a word or a wait too many, and how to look at it."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..messages.credentials import redact, without_credentials

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def tracking_uri(site_uri: str | None, workspace: Path) -> str:
    """The site's, else MLFLOW_TRACKING_URI, else SQLite in the workspace. That of a site is without user and password
    in a plan: they are in the variable, where it names the same server."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if site_uri is None or (named and without_credentials(named) == site_uri):
        return named or f"sqlite:///{workspace.resolve()}/mlflow.db"
    return site_uri


def ui_command(uri: str) -> str:
    """What to type, or which address to open, to see the runs of a tracking server."""
    uri = redact(uri)
    if uri.startswith(("http://", "https://")):
        return uri
    beside = Path(sys.executable).parent / "mlflow"
    program = "mlflow" if shutil.which("mlflow") or not beside.exists() else str(beside)
    return shlex.join([program, "ui", "--backend-store-uri", uri])


def artifact_location(uri: str, workspace: Path, experiment: str) -> str | None:
    """Where a new experiment keeps its artifacts; None: the server says. A database without a server before
    it would put them into `./mlruns`, wherever the command was typed."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in DATABASES:
        return None
    file = sqlite_file(uri)
    folder = workspace.resolve() if file is None else file.resolve().parent
    name = re.sub(r"[/\\\0]", "_", experiment)  # MLflow takes `%2F` for a `/`, and would go where it leads
    return (folder / "mlartifacts").as_uri() + "/" + quote("_" if name in (".", "..") else name, safe="")


def connect(uri: str) -> Any:
    """An `MlflowClient`. No telemetry, no talk; one short retry, because everything is sent again later."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    file = sqlite_file(uri)
    with _alone(file):
        if file is not None and not file.exists():
            _make_tables(file, MlflowClient)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _make_tables(file: Path, client_class: Any) -> None:
    """A new database appears by one rename: one that was killed half-way through its migrations could never
    be opened again."""
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    address = f"sqlite:///{new}"
    client = client_class(tracking_uri=address, registry_uri=address)
    client.search_experiments(max_results=1)
    new.replace(file)


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite address."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def database_fault(uri: str, experiment: str | None = None) -> str:
    """Why a SQLite database cannot be looked at or (with `experiment`) written into; empty: nothing is wrong, or it is
    something else than SQLite. A look without MLflow, which takes a while to come up."""
    file = sqlite_file(uri)
    if file is None:
        return ""
    if not file.is_file():
        return f"{file} is not there, and there was too little time to make it"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as database:
            found = database.execute("SELECT lifecycle_stage FROM experiments WHERE name = ?", (experiment,)).fetchone()
    except sqlite3.Error as error:
        busy = "locked" in str(error)  # somebody is writing
        return "" if busy else f"{file}: {error}"
    return deleted(experiment) if experiment is not None and found is not None and found[0] != "active" else ""


def deleted(experiment: str) -> str:
    """Nothing can be sent to it."""
    return f"the experiment {experiment!r} was deleted there; restore it or name another one"


@contextmanager
def _alone(file: Path | None) -> Iterator[None]:
    """One process at a time makes the tables of a new SQLite file."""
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with (file.parent / f".{file.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
