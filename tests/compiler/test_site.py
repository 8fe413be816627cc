"""The site: its sources in order of strength, its diagnostics, and what the machine has."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from distilc.compiler.resolve import machine
from distilc.compiler.resolve.machine import Machine
from distilc.compiler.resolve.site import LoadedSite, Site, SiteOptions, load_site


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    on(monkeypatch, Machine("cpu", "a CPU", 1, 16.0))
    return tmp_path


def on(monkeypatch: pytest.MonkeyPatch, found: Machine) -> None:
    monkeypatch.setattr(machine, "detect", lambda: found)


def loaded(text: str = "", **options: object) -> Site:
    result = load(text, **options)
    assert result.site is not None, result.diagnostics
    return result.site


def load(text: str = "", **options: object) -> LoadedSite:
    if text:
        Path("site.yaml").write_text(text, "utf-8")
        options["site"] = Path("site.yaml")
    return load_site(SiteOptions(**options))  # type: ignore[arg-type]


def test_defaults(folder: Path) -> None:
    assert loaded() == Site(
        workspace=folder / ".distilc", shared_stores=(), offline=False, models=(), paths={}, device="cpu",
        device_name="a CPU", nodes=1, per_node=1, memory_gb=16.0, hostfile=None, zero="auto", offload="none",
        shard_teacher="auto", checkpointing="auto",
        micro_batch_tokens=None, save_minutes=10.0, tracking_uri=None, scratch=None,
        scratch_limit_gb=50.0, scratch_read_gb_per_second=1.0,
    )  # fmt: skip


def test_everything_given(folder: Path) -> None:
    (folder / "models").mkdir()
    (folder / "hosts").write_text("a slots=8\nb slots=8\n")
    site = loaded(
        "workspace: w\nshared_stores: [/s, t]\noffline: true\nmodels: [models]\npaths: {data: d, home: ~/x}\n"
        "devices: {kind: cuda, name: A100, nodes: 2, per_node: 8, memory_gb: 80, hostfile: hosts}\n"
        "zero: 3\nshard_teacher: true\ncheckpointing: false\noffload: parameters\nmicro_batch_tokens: 4096\n"
        "save_minutes: 0\ntracking: {uri: http://m:5000}\nscratch: {path: s, limit_gb: 5, read_gb_per_second: 2}\n"
    )
    assert site == Site(
        workspace=folder / "w", shared_stores=(Path("/s"), folder / "t"), offline=True, models=(folder / "models",),
        paths={"data": folder / "d", "home": Path.home() / "x"}, device="cuda", device_name="A100", nodes=2,
        per_node=8, memory_gb=80, hostfile=folder / "hosts", zero=3, offload="parameters", micro_batch_tokens=4096,
        shard_teacher=True, checkpointing=False, save_minutes=0.0, tracking_uri="http://m:5000",
        scratch=folder / "s", scratch_limit_gb=5.0, scratch_read_gb_per_second=2.0,
    )  # fmt: skip
    assert len(fields(Site)) == 22  # all of them are above


def test_the_later_source_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "config" / "distilc").mkdir(parents=True)
    (folder / "config" / "distilc" / "site.yaml").write_text(
        "zero: 1\nsave_minutes: 1\noffline: true\npaths: {a: /1}\n"
    )
    (folder / "cluster.yaml").write_text("zero: 2\nsave_minutes: 2\npaths: {b: /2}\n")
    monkeypatch.setenv("DISTILC_SITE", "cluster.yaml")
    site = loaded("zero: 3\npaths: {a: /3, c: /3}\n", paths={"c": Path("rel")}, workspace=Path("w"), devices=4)
    assert (site.zero, site.save_minutes, site.offline, site.per_node) == (3, 2.0, True, 4)
    assert site.paths == {"a": Path("/3"), "b": Path("/2"), "c": folder / "rel"}
    assert site.workspace == folder / "w"


def test_the_machine_fills_what_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, Machine("cuda", "NVIDIA H200", 4, 139.0))
    site = loaded()
    assert (site.device, site.device_name, site.per_node, site.memory_gb) == ("cuda", "NVIDIA H200", 4, 139.0)
    assert loaded("devices: {per_node: 2}\n").per_node == 2
    site = loaded("devices: {kind: cpu}\n")
    assert (site.device, site.per_node, site.memory_gb) == ("cpu", 1, None)


def test_models_of_the_command_line_are_looked_in_first(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
    assert loaded("models: [b]\n", models=(Path("a"),)).models == (folder / "a", folder / "b")


@pytest.mark.parametrize(
    ("text", "code", "column", "words"),
    [
        ("wrokspace: x\n", "E201", 1, "unknown key 'wrokspace'"),
        ("zero: 4\n", "E205", 7, "`zero` must be at most 3, it is 4"),
        ("zero: on\n", "E204", 7, "`zero` must be auto, it is 'on'"),
        ("devices: {nodes: 2}\n", "E307", 18, "no hostfile"),
        ("devices: {hostfile: nowhere}\n", "E306", 21, "the hostfile nowhere does not exist"),
        ("models: [nowhere]\n", "E306", 10, "the folder nowhere does not exist"),
        ("paths: {a b: /x}\n", "E208", 9, "the key 'a b' must be a name"),
        ("offline: 1\n", "E203", 10, "`offline` must be true or false, it is 1"),
        ("devices: {kind: gpu}\n", "E204", 17, "must be one of auto, cpu or cuda"),
        ("version: 1\nname: x\ntask: summarization\n", "E201", 1, "this is a spec, not a site file"),
        ("- a\n", "E111", 1, "the top level must be a mapping"),
        ("devices: [\n", "E105", 11, "not valid YAML"),
    ],
)
def test_mistakes(text: str, code: str, column: int, words: str) -> None:
    result = load(text)
    assert result.site is None
    (found,) = result.diagnostics
    assert (found.code, found.file, found.line, found.column) == (code, "site.yaml", 1, column)
    assert words in found.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("devices: {hostfile: sub}\n", "the hostfile sub is a folder"),
        ("devices: {hostfile: pipe}\n", "the hostfile pipe is a pipe, a device or a socket"),
        ("devices: {hostfile: dangling}\n", "the hostfile dangling is a broken link"),
        ("models: [hosts]\n", "the folder hosts is a file, not a folder of models"),
        ("models: [pipe]\n", "the folder pipe is a pipe, a device or a socket"),
    ],
)
def test_what_a_location_is_instead(folder: Path, text: str, words: str) -> None:
    (folder / "sub").mkdir()
    (folder / "hosts").write_text("a slots=1\n")
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("nowhere")
    (found,) = load(text).diagnostics
    assert (found.code, found.message) == ("E306", words)


TWO = "devices: {kind: cuda, nodes: 2, per_node: 2, hostfile: hosts}\n"


@pytest.mark.parametrize(
    ("hosts", "file", "line", "column", "words"),
    [
        ("# two\n\nroot@10.0.0.7 slots=2\nb lots=8\n", "hosts", 4, 3, "'lots=8' is not `slots=` with a number of devices"),
        ("a slots=2\nb\n", "hosts", 2, 1, "'b' has no number of devices"),
        ("a slots=2\nb slots=0\n", "hosts", 2, 3, "'slots=0' is not"),
        ("a slots=2\nb slots=2 port=23\n", "hosts", 2, 11, "'port=23' is not expected here"),
        ("a slots=2\n-oProxyCommand=x slots=2\n", "hosts", 2, 1, "is not a host name"),
        ("a slots=2\nme@A slots=2\nc slots=2\n", "hosts", 2, 1, "'a' is named twice, first in line 1"),
        ("a slots=2\n  b  slots=1\n", "hosts", 2, 6, "'b' has 1 devices, and 2 per node"),
        ("a slots=4\n", "site.yaml", 1, 30, "2 nodes, and the hostfile hosts names 1"),
        ("", "site.yaml", 1, 30, "2 nodes, and the hostfile hosts names 0"),
    ],
)
def test_mistakes_of_a_hostfile(hosts: str, file: str, line: int, column: int, words: str) -> None:
    Path("hosts").write_text(hosts, "utf-8")
    result = load(TWO)
    assert result.site is None
    (found,) = result.diagnostics
    assert (found.code, found.file, found.line, found.column) == ("E321", file, line, column)
    assert words in found.message
    assert result.texts["hosts"] == hosts


def test_all_mistakes_of_a_hostfile_are_told() -> None:
    Path("hosts").write_bytes(b"a\nb lots=1\nc slots=1\nc slots=1\n")
    assert [(found.file, found.line) for found in load(TWO).diagnostics] == [("hosts", line) for line in (1, 2, 3, 4)]
    Path("hosts").write_bytes(b"a slots=2\n\xff slots=2\n")
    assert [(found.code, found.line, found.column) for found in load(TWO).diagnostics] == [("E103", 2, 1)]


def test_devices_of_the_command_line_are_held_to_the_hostfile() -> None:
    Path("hosts").write_text("# boxes\nroot@192.168.1.7 slots=2  # under the desk\nworker-2 slots=8\nworker-3 slots=1\n")
    assert loaded(TWO).nodes == 2
    assert {found.line for found in load(TWO, devices=4).diagnostics} == {2}


def test_a_named_site_file_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILC_SITE", "/nowhere/site.yaml")
    result = load()
    assert result.site is None and [d.code for d in result.diagnostics] == ["E101"]
    assert "which DISTILC_SITE names" in result.diagnostics[0].message


def test_a_site_file_may_be_empty() -> None:
    assert loaded("# nothing yet\n") == loaded()


def test_a_gpu_is_called_cuda() -> None:
    assert [d.hint for d in load("devices: {kind: gpu}\n").diagnostics] == ["did you mean cuda?"]
