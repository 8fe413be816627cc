"""The command line: exit codes, formats, options, help. What runs models is only handed over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from distilc.compiler.cli import COMMANDS, distilc
from distilc.compiler.commands.init import RECIPES

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
ENVIRONMENT = {**os.environ, "NO_COLOR": "1"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, outside of the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DISTILC_SITE", raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(distilc, [*arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def outside(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    environment = {**ENVIRONMENT, "XDG_CONFIG_HOME": str(Path.cwd())}
    return subprocess.run(
        [sys.executable, "-m", "distilc.compiler", *arguments],
        capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip


@pytest.fixture
def spec(folder: Path) -> str:
    assert run("init", "spec.yaml").exit_code == 0
    return "spec.yaml"


def handed_over(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Result, list[str] | None]:
    """The arguments that the runtime would get."""
    calls: list[list[str]] = []

    def execv(program: str, words: list[str]) -> None:
        assert program == sys.executable and words[:3] == [sys.executable, "-m", "distilc.runtime"]
        calls.append(words[3:])
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    result = run(*arguments)
    return result, calls[0] if calls else None


# --- help and usage --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_teaches(command: str) -> None:
    text = run(command, "--help").output
    assert "Example:" in text and "Exit codes: " in text
    assert f"distilc {command}" in text
    assert max(map(len, text.split("\n"))) <= 110


def test_the_group_lists_its_commands_and_exit_codes() -> None:
    text = run("--help").output
    assert all(f"  {command} " in text for command in COMMANDS)
    assert "130 interrupted" in text and "75 try again" in text
    assert run("--version").output.startswith("distilc 0.")
    files = {file.stem for file in (ROOT / "compiler" / "commands").glob("*.py")}
    assert set(COMMANDS) <= files
    rooms = {"__init__", "outlet", "options", "output", "plans", "hand_over"}  # what the commands share
    assert files - set(COMMANDS) == rooms, "every other file is a command, and is listed"


def test_the_readme_lists_the_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert all(f"distilc {command}" in text for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chek"], "did you mean check?"),
        (["check"], "Missing argument 'SPEC...'"),
        (["check", "--set", "batch", "x.yaml"], "'batch' is not PATH=VALUE"),
        (["check", "--path", "a b=c", "x.yaml"], "'a b=c' is not NAME=FOLDER"),
        (["check", "--models", "nowhere", "x.yaml"], "nowhere"),
        (["check", "--devices", "0", "x.yaml"], "--devices"),
        (["check", "--format", "xml", "x.yaml"], "--format"),
        (["explain", "E999"], "there is no code E999"),
        (["init", "--recipe", "sftt", "x.yaml"], "did you mean sft?"),
        (["init", ""], "is a folder; name a file, for example spec.yaml"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], words: str) -> None:
    result = outside(*arguments)
    assert result.returncode == 2
    assert words in result.stderr and "Traceback" not in result.stderr


# --- init, check, explain --------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_init_writes_a_spec_that_only_lacks_data(recipe: str, folder: Path) -> None:
    assert run("init", "--recipe", recipe, "mine.yaml").output == "wrote mine.yaml; next: distilc check mine.yaml\n"
    text = Path("mine.yaml").read_text("utf-8")
    assert "distilc run mine.yaml" in text and "spec.yaml" not in text
    schema = Path(text.split("\n")[0].partition("$schema=")[2])
    assert schema == ROOT / "schema" / "experiment.schema.json" and schema.is_file()
    found = json.loads(run("check", "--format", "json", "mine.yaml").output)["diagnostics"]
    lacks: dict[str, set[str]] = {"sft": set(), "kd": set(), "pseudo-labels": set(), "translation": {"E508"}, "nli": {"E508"}}
    assert {diagnostic["code"] for diagnostic in found} == lacks.get(recipe, {"E508"})


def test_init_overwrites_nothing(spec: str) -> None:
    Path(spec).write_text("mine")
    assert outside("init", spec).returncode == 2
    assert Path(spec).read_text() == "mine"
    assert run("init", "nowhere/spec.yaml").exit_code == 1


def test_check_writes_nothing_and_says_ok(spec: str, folder: Path) -> None:
    result = run("check", spec)
    assert (result.exit_code, result.output) == (0, "spec.yaml: ok\n")
    assert sorted(os.listdir(folder)) == ["spec.yaml"]


def test_check_shows_all_of_all_files(spec: str) -> None:
    Path("bad.yaml").write_text("extends: spec.yaml\nbatch: 3\nprecision: bf61\n")
    Path("worse.yaml").write_text("- x\n")
    result = run("check", "bad.yaml", spec, "worse.yaml", "gone.yaml")
    assert result.exit_code == 1
    lines = [line for line in result.output.split("\n") if ": E" in line]
    assert [line.partition(": ")[0] for line in lines] == [
        "bad.yaml:2:8", "bad.yaml:3:12", "worse.yaml:1:1", "gone.yaml:1:1",
    ]  # fmt: skip
    assert result.output.endswith("4 files: 4 errors\n")


def test_six_mistakes_six_diagnostics() -> None:
    file = ROOT / "tests" / "compiler" / "invalid" / "six-mistakes.yaml"
    result = run("check", "--format", "json", str(file))
    assert result.exit_code == 1
    found = json.loads(result.output)["diagnostics"]
    assert [(d["code"], d["line"], d["column"], d["path"]) for d in found] == [
        ("E201", 6, 3, "student.decoder_layer"),
        ("E204", 8, 13, "training.schedule"),
        ("E203", 9, 18, "training.learning_rate"),
        ("E206", 10, 23, "batch.tokens"),
        ("E402", 12, 21, "evaluation.metrics[1]"),
        ("E408", 13, 28, "evaluation.generation.min_length"),
    ]
    assert {d["file"] for d in found} == {str(file)}
    assert list(found[0]) == ["code", "severity", "file", "line", "column", "path", "message", "hint"]


def test_formats(spec: str) -> None:
    assert json.loads(run("check", "--format", "json", spec).output) == {"diagnostics": []}
    result = run("check", "--format", "github", "--set", "batch.examples=0", spec)
    assert result.output == (
        "::error file=--set,line=1,col=16,title=E205::`batch.examples` must be at least 1, it is 0\n"
    )
    assert run("check", "--format", "github", spec).output == ""


def test_a_wrong_site_is_a_diagnosis(spec: str) -> None:
    Path("site.yaml").write_text("zero: 9\n")
    result = run("check", "--site", "site.yaml", spec)
    assert result.exit_code == 1
    assert "site.yaml:1:7: E205: `zero` must be at most 3, it is 9" in result.output


def test_warnings_do_not_fail(spec: str) -> None:
    result = run("check", "--set", "stopping.patience=99", spec)
    assert (result.exit_code, result.output.split("\n")[-2]) == (0, "spec.yaml: 1 warning")


def test_explain_shows_the_run(spec: str) -> None:
    text = run("explain", spec).output
    assert "my-sft" in text and "evaluate-student" in text
    (shown,) = json.loads(run("explain", "--json", spec).output)["runs"]
    assert (shown["name"], shown["task"], shown["teacher"]["decoder_layers"]) == ("my-sft", "summarization", 6)
    assert shown["copy"] == {"encoder": [0, 1, 2], "decoder": [0, 5]}
    assert run("explain", "--set", "batch=3", spec).exit_code == 1


def test_explain_resolved_is_the_whole_spec(spec: str) -> None:
    text = run("explain", "--resolved", "--set", "training.dropout=0.2", spec).output
    Path("whole.yaml").write_text(text)
    assert "  dropout: 0.2\n" in text and "eps: 1e-08" in text
    assert run("check", "whole.yaml").exit_code == 0


def test_explain_a_code() -> None:
    text = run("explain", "E206").output
    assert text.startswith("E206: exactly one of several\n\n")
    assert "Incorrect:\n    batch: {examples: 64, tokens: 4096}\n" in text
    assert "Corrected:\n    batch: {tokens: 4096}\n" in text
    assert run("explain", "e206").output == text


def test_codes_of_a_run_are_told_by_the_run() -> None:
    result = run("explain", "R106")
    assert result.exit_code == 0
    assert result.output.startswith("R106: ") and "distilc run" in result.output


def test_init_names_a_file_that_a_shell_can_take() -> None:
    name = 'a b"c.yaml'
    assert run("init", name).output == f"wrote {name}; next: distilc check 'a b\"c.yaml'\n"
    assert "distilc run 'a b\"c.yaml'" in Path(name).read_text("utf-8")
    assert run("check", name).exit_code == 0


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("seeds: [99999999999999999999]", ["E113"]),
        ("batch: {examples: 99999999999999999999}", ["E113"]),
        ("batch: &b {examples: 3}\nstudent: {<<: *b}", ["E115"]),
        ("batch: &b {examples: 3}\nteacher: {train: {batch: {<<: *b}}}", ["E115"]),
    ],
)
def test_of_what_was_not_read_nothing_more_is_told(line: str, codes: list[str], spec: str) -> None:
    Path("mine.yaml").write_text(f"extends: {spec}\n{line}\n")
    found = json.loads(run("check", "--format", "json", "mine.yaml").output)["diagnostics"]
    assert [diagnostic["code"] for diagnostic in found] == codes


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared models and data are not there")
def test_real_models_and_data_by_name(folder: Path) -> None:
    translation = str(ROOT / "specs" / "translation" / "marian-6-3-sft.yaml")
    data = f"--path=multi30k={SHARED / 'data' / 'multi30k'}"
    result = run("check", "--data", data, translation)
    assert (result.exit_code, result.output) == (0, f"{translation}: ok\n")
    assert run("check", translation).exit_code == 1
    Path("spec.yaml").write_text(
        "version: 1\nname: x\ntask: summarization\nteacher: facebook/bart-large-xsum\n"
        "student: {decoder_layers: 13}\ndata: {train: {files: a.json}, validation: {files: b.json}, test: {files: b.json}}\n"
    )
    for name in ("a.json", "b.json"):
        Path(name).write_text("[]\n")
    found = run("check", "--models", str(SHARED / "models"), "--format", "json", "spec.yaml")
    assert [d["path"] for d in json.loads(found.output)["diagnostics"] if d["severity"] == "error"] == [
        "student.decoder_layers"
    ]


def test_schema() -> None:
    assert json.loads(run("schema").output)["title"] == "distilc experiment"
    assert json.loads(run("schema", "--site").output)["title"] == "distilc site"


def test_a_closed_pipe_is_no_traceback() -> None:
    result = subprocess.run(
        f"{sys.executable} -m distilc.compiler schema | head -1", shell=True, capture_output=True, text=True
    )
    assert result.stdout == "{\n" and result.stderr == ""


# --- compile and run -------------------------------------------------------------------------------


def test_compile_writes_a_plan_folder(spec: str) -> None:
    result = run("compile", "-o", "plans", spec)
    assert (result.exit_code, result.output) == (0, "plans/my-sft\n")
    plan: Any = json.loads(Path("plans/my-sft/plan.json").read_text("utf-8"))
    assert plan["name"] == "my-sft" and plan["places"]["student.decoder_layers"][0] == "spec.yaml"
    assert {"lock.yaml", "launch.sh", "deepspeed.train.json"} <= set(os.listdir("plans/my-sft"))
    before = Path("plans/my-sft/plan.json").read_bytes()
    assert run("compile", "-o", "plans", "--locked", spec).exit_code == 0
    assert Path("plans/my-sft/plan.json").read_bytes() == before
    result = run("compile", "-o", "plans", "--locked", "--set", "batch.examples=8", spec)
    assert result.exit_code == 1 and "batch.examples" in result.output
    assert run("compile", "-o", "elsewhere", "--locked", spec).exit_code == 1


def test_compile_of_a_wrong_spec_writes_nothing(spec: str) -> None:
    assert run("compile", "--set", "batch=3", spec).exit_code == 1
    assert not Path(".distilc").exists()


def test_a_workspace_that_cannot_be_written(spec: str) -> None:
    Path("taken").write_text("a file")
    result = run("compile", "--workspace", "taken", spec)
    assert result.exit_code == 1
    assert "error: cannot write" in result.output
    assert "hint: choose another folder with --workspace DIR" in result.output
    result = run("compile", "-o", "taken/here", spec)
    assert result.exit_code == 1 and "hint: choose another folder with -o DIR" in result.output


def test_run_compiles_and_hands_over(spec: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--until", "train", "--redo", "data", "--redo", "train", "--in-process"]
    result, words = handed_over(monkeypatch, "run", spec, "--devices", "2", "--workspace", "w", *options)
    assert result.exit_code == 0
    plan = folder / "w" / "plans" / "my-sft"
    assert words == ["run", str(plan), *options]
    assert json.loads((plan / "plan.json").read_text("utf-8"))["site"]["per_node"] == 2
    result, words = handed_over(monkeypatch, "run", str(plan))
    assert words == ["run", str(plan)]


def test_run_of_a_wrong_spec_is_not_handed_over(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result, words = handed_over(monkeypatch, "run", spec, "--set", "batch=3")
    assert (result.exit_code, words) == (1, None)
    assert "--set:1:7: E203" in result.output


def test_two_runs_of_one_name_are_refused(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("copy.yaml").write_bytes(Path(spec).read_bytes())
    result, words = handed_over(monkeypatch, "run", spec, "copy.yaml")
    assert (result.exit_code, words) == (2, None)


@pytest.mark.parametrize("option", [["--devices", "2"], ["--set", "a=1"], ["--path", "a=b"], ["--site", "s.yaml"]])
def test_a_plan_takes_no_option_of_a_spec(option: list[str], spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("compile", spec).exit_code == 0
    result, words = handed_over(monkeypatch, "run", *option, ".distilc/plans/my-sft")
    assert (result.exit_code, words) == (2, None)
    assert f"{option[0]} does not go with the plan" in result.output


def test_status_and_doctor_are_handed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert handed_over(monkeypatch, "status")[1] == ["status", "--workspace", str(folder / ".distilc")]
    assert handed_over(monkeypatch, "doctor", "--workspace", "w")[1] == ["doctor", "--workspace", str(folder / "w")]
    Path("site.yaml").write_text("workspace: /far\n")
    assert handed_over(monkeypatch, "status", "--site", "site.yaml")[1] == ["status", "--workspace", "/far"]


# --- what a cold start loads -------------------------------------------------------------------------


def test_check_loads_little() -> None:
    """What a cold `check` costs is what it loads: `make bench` has the seconds, this the modules."""
    program = (
        "import sys; from distilc.compiler.cli import main\n"
        f"sys.argv = ['distilc', 'check', {str(ROOT / 'specs' / 'quickstart.yaml')!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(result.stderr.split())
    heavy = {"torch", "transformers", "datasets", "deepspeed", "mlflow", "numpy", "rich", "difflib", "asyncio", "pip"}
    assert "ok" in result.stdout and not heavy & loaded
    # Those of Python, of the YAML and JSON Schema libraries, and ours; look at a new one before raising this.
    assert len(loaded) < 330, len(loaded)
