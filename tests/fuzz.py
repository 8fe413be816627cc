"""Specs and plans damaged at random, through the commands that read them, in this process and under watch:

    python tests/fuzz.py --specs 10000 --plans 2000 [--seed 0]

No case may end in a traceback, take longer than a few seconds, show a control character, or write, delete, connect or
start anything outside of its folder. Prints each case that did, with its number, and ends with 1.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "compiler")]

import conftest  # noqa: E402, F401  (`distilc` from a bare checkout)
import test_mutations as mutations  # noqa: E402

from distilc.compiler.cli import distilc  # noqa: E402
from distilc.runtime.commands import run as driver  # noqa: E402
from distilc.runtime.commands import status  # noqa: E402
from distilc.runtime.failure import Failure  # noqa: E402
from distilc.runtime.plan.keys import facts_digest, run_key, stage_key  # noqa: E402
from distilc.runtime.plan.load import load_plan  # noqa: E402

LIMIT_SECONDS = 20
HOSTILE: list[Any] = [
    "../../canary", "../canary/mine.txt", "..", ".", "/", "a/../../b", "/dev/zero", "/dev/tty", "/proc/self/mem", "a\nb", "a\n", "\x00",
    "\x1b[2J\x1b]0;x\x07", "\u202eabc", "\ud800", "$(touch canary)", "`touch canary`", "'; touch canary; '", "-rf", "--help",
    "%2e%2e%2f", "a" * 5000, "file:///etc/passwd", "http://me:s3cret@127.0.0.1:9", "~root/x", 0, -1, 1, 2**31, 2**63, 2**64, 10**400,
    1e308, -1e308, 5e-324, 0.5, True, False, None, [], {}, [[]], [None], {"": ""}, {"a": {}}, {"..": ".."}, ["../../canary"],
]  # fmt: skip
ELSEWHERE = ("workspace", "scratch")  # a plan says where it writes: what is tried there leads nowhere
# What writes, deletes, connects or starts; the arguments that are paths.
WATCHED = {
    "os.mkdir": (0,), "os.remove": (0,), "os.rmdir": (0,), "os.rename": (0, 1), "os.symlink": (1,), "os.link": (1,),
    "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,), "shutil.rmtree": (0,),
}  # fmt: skip
FORBIDDEN = ("os.exec", "os.system", "os.posix_spawn", "os.fork", "socket.connect", "pty.spawn")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
WORKSPACE = "/nowhere/workspace"  # of plans that are right, until they are damaged
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
EXIT_CODES = (0, 1, 2, 3, 75, 130)


class OutsideError(BaseException):
    """Something was tried outside of the folder. No `except Exception` hides it."""


class TooLongError(BaseException):
    """A case did not end."""


@dataclass
class Watch:
    """`folder` None: nothing is watched."""

    folder: Path | None = None
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        paths: list[Any] = []
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
            paths = [arguments[0]]
        elif event in WATCHED:
            paths = [arguments[i] for i in WATCHED[event]]
        elif event == "subprocess.Popen" and Path(str(arguments[0])).name != "git":
            self._tell(f"{event} {arguments[:2]}")
        elif event in FORBIDDEN:
            self._tell(f"{event} {arguments}")
        for path in paths:
            if isinstance(path, int) or path is None:
                continue
            place = Path(os.path.realpath(os.fsdecode(path)))
            if self.folder not in (place, *place.parents) and place != Path(os.devnull):
                self._tell(f"{event} {path!r}")

    def _tell(self, what: str) -> None:
        self.seen.append(what)
        raise OutsideError(what)


WATCH = Watch()


@dataclass
class Fuzz:
    """`sandbox`: the folder in which a case may write; beside it lies the canary."""

    root: Path
    faults: list[str] = field(default_factory=list)
    num_cases: int = 0
    longest: float = 0.0

    def __post_init__(self) -> None:
        self.root = self.root.resolve()
        self.sandbox, self.canary = self.root / "sandbox", self.root / "canary"
        self.canary.mkdir()
        (self.canary / "mine.txt").write_text("kept")
        (self.canary / "folder").mkdir()

    @contextmanager
    def case(self, name: str) -> Iterator[Path]:
        """A fresh folder, watched, with a limit of time; what goes wrong in it is a fault."""
        shutil.rmtree(self.sandbox, ignore_errors=True)
        self.sandbox.mkdir()
        os.chdir(self.sandbox)
        began = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS)
        WATCH.folder, WATCH.seen = self.sandbox, []
        try:
            yield self.sandbox
        except (Exception, OutsideError, TooLongError):
            self.fault(f"{name}: {traceback.format_exc()[-1500:]}")
        finally:
            WATCH.folder = None
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.longest = max(self.longest, time.monotonic() - began)
        self.num_cases += 1
        if WATCH.seen:
            self.fault(f"{name}: outside: {WATCH.seen}")
        if sorted(os.listdir(self.canary)) != ["folder", "mine.txt"] or (self.canary / "mine.txt").read_text() != "kept":
            raise SystemExit(f"{name}: the canary")

    def fault(self, text: str) -> None:
        self.faults.append(text)
        print(text, flush=True)

    def command(self, *words: str) -> None:
        """A command of the compile half: an exit code of the contract, and clean output."""
        result = CliRunner().invoke(distilc, list(words))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code in EXIT_CODES, result.exit_code
        found = CONTROL.search(result.output.replace("\r\n", "\n"))
        assert found is None, f"control character {found} in the output of {words}"


# --- specs -------------------------------------------------------------------------------------------


def damaged_spec(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.35:
        return mutations.damaged_text(chance)
    if kind < 0.6:
        return mutations.damaged_tree(chance)
    tree = copy.deepcopy(mutations.FULL)
    for _ in range(chance.choice([1, 1, 2, 3])):
        put(chance, tree, chance.choice([value for value in HOSTILE if not is_half(value)]))
    return mutations.resolved_yaml_of(json.loads(json.dumps(tree))).encode("utf-8", "surrogatepass")


def is_half(value: Any) -> bool:
    """What YAML has no words for."""
    return value == "\ud800" or (isinstance(value, float) and value != value)


def put(chance: random.Random, tree: Any, value: Any) -> None:
    """The value in place of another one, or of a name."""
    trail = chance.choice([trail for trail in mutations.trails(tree) if trail])
    holder = tree
    for step in trail[:-1]:
        holder = holder[step]
    if trail[-1] in ELSEWHERE and not (isinstance(value, str) and not value.startswith("/")):
        return
    if isinstance(holder, dict) and isinstance(value, str) and chance.random() < 0.2:
        holder[value] = holder.pop(trail[-1])
    else:
        holder[trail[-1]] = copy.deepcopy(value)


def fuzz_specs(fuzz: Fuzz, seeds: Sequence[int]) -> None:
    for seed in seeds:
        chance = random.Random(seed)
        content = damaged_spec(chance)
        overrides = [f"--set={override}" for override in chance.sample(mutations.OPTIONS, chance.choice([0, 0, 1]))]
        with fuzz.case(f"spec {seed}") as folder:
            (folder / "spec.yaml").write_bytes(content)
            words = ["--offline", "--workspace", "workspace", "spec.yaml", *overrides]
            fuzz.command("check", *(["--data"] if chance.random() < 0.3 else []), "--format", chance.choice(["text", "json"]), *words)
            assert sorted(os.listdir(folder)) == ["spec.yaml"], "check writes nothing"
            if chance.random() < 0.5:
                fuzz.command("explain", *chance.choice([[], ["--json"], ["--resolved"], ["--why", "train"]]), *words)
            else:
                fuzz.command("compile", "-o", "out", *words)


# --- plans -------------------------------------------------------------------------------------------


def sound_plans(folder: Path) -> list[str]:
    """The texts of plans that are right, of specs with all that there can be."""
    texts = []
    for name in ("quickstart", "recipes/kd", "recipes/pseudo-labels", "recipes/sft"):
        out = folder / name.replace("/", "-")
        words = ["compile", "--offline", "--workspace", WORKSPACE, "-o", str(out)]
        result = CliRunner().invoke(distilc, [*words, str(ROOT / "specs" / f"{name}.yaml")])
        assert result.exit_code == 0, result.output
        texts += [file.read_text("utf-8") for file in sorted(out.glob("*/plan.json"))]
    return texts


def damaged_plan(chance: random.Random, texts: Sequence[str], workspace: Path) -> bytes:
    text = chance.choice(texts).replace(WORKSPACE, str(workspace))
    if chance.random() < 0.25:
        content = bytearray(text.encode())
        for _ in range(chance.choice([1, 2, 5])):
            at = chance.randrange(len(content))
            content[at : at + chance.randrange(30)] = chance.choice(
                [b"", b"{", b"[", b'"', b",", b"1e999", b"NaN", b"-", b"\\ud800", b"\xff", b"null", b"[" * 3000]
            )
        return bytes(content)
    tree = json.loads(text)
    for _ in range(chance.choice([1, 1, 2, 4])):
        put(chance, tree, chance.choice(HOSTILE))
    if chance.random() < 0.7:  # by somebody who knows how
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            make_keys(tree)
    return json.dumps(tree).encode()


def make_keys(tree: dict[str, Any]) -> None:
    keys: dict[str, str] = {}
    for stage in tree["stages"]:
        needs = {role: keys[id] for role, id in stage["needs"].items()}
        keys[stage["id"]] = stage["key"] = stage_key(stage["kind"], stage["settings"], needs)
    tree["key"] = run_key(tree["stages"])
    tree["digest"] = facts_digest(tree)


def no_work(run: driver.Run, stages: Sequence[Any]) -> Failure | None:
    """In place of the workers: artifacts without content."""
    for stage in stages:
        run.store.work(stage.key)
        run.store.publish(stage.key, kind=stage.kind, stage=stage.id, seconds=1.0, summary={})
    return None


class Untold:
    """In place of the tracker."""

    def __init__(self, *_: Any) -> None:
        pass

    def __getattr__(self, _: str) -> Callable[..., Any]:
        return lambda *arguments, **named: Tracked()


@dataclass
class Tracked:
    run_id: str | None = None
    pending: int = 0
    message: str = ""
    uri: str = "http://host"


def fuzz_plans(fuzz: Fuzz, seeds: Sequence[int], texts: Sequence[str]) -> int:
    """Returns how many were sound enough to be run."""
    driver._execute, driver.Tracker = no_work, Untold  # type: ignore[assignment, misc]
    num_run = 0
    for seed in seeds:
        chance = random.Random(seed)
        with fuzz.case(f"plan {seed}") as folder:
            workspace = folder / "workspace"
            content = damaged_plan(chance, texts, workspace)
            (workspace / "plans" / "plan").mkdir(parents=True)
            file = workspace / "plans" / "plan" / "plan.json"
            file.write_bytes(content)
            (folder / "spec.yaml").write_text((ROOT / "specs" / "quickstart.yaml").read_text("utf-8"), "utf-8")
            stages = ["data", "train"]
            try:
                stages = [stage.id for stage in load_plan(file).stages]
                num_run += 1
            except Failure as failure:
                assert failure.code.startswith("R1"), failure.code
            with quiet() as said:
                last = chance.choice(stages)
                for options in (driver.Options(until=last), driver.Options(until=last, redo=[chance.choice(stages)])):
                    assert driver.main([file.parent], options) in EXIT_CODES
                assert status.main(["--workspace", str(workspace)]) in EXIT_CODES
            found = CONTROL.search(said())
            assert found is None, f"control character {found}"
            fuzz.command("diff", "--offline", "--workspace", "workspace", "workspace/plans/plan", "spec.yaml")
    return num_run


@contextmanager
def quiet() -> Iterator[Callable[[], str]]:
    """Without what is said, which `said()` gives."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    stream = io.StringIO()
    with redirect_stdout(stream), redirect_stderr(stream):
        yield stream.getvalue


# --- all of it ---------------------------------------------------------------------------------------


def fuzz_all(root: Path, num_specs: int, num_plans: int, seed: int) -> tuple[Fuzz, int]:
    """What went wrong, and how many plans were run. To be called once in a process, which it leaves watched."""
    for name in ("DISTILC_SITE", "MLFLOW_TRACKING_URI"):
        os.environ.pop(name, None)
    os.environ.update(XDG_CONFIG_HOME=str(root / "config"), HF_HUB_CACHE=str(root / "hub"), HF_HUB_OFFLINE="1")
    sys.dont_write_bytecode = True
    texts = sound_plans(root / "sound")
    sys.addaudithook(WATCH)

    def ring(*_: Any) -> None:
        raise TooLongError(f"longer than {LIMIT_SECONDS} s")

    signal.signal(signal.SIGALRM, ring)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets nobody interrupt what runs behind it
    fuzz, num_run = Fuzz(root), 0
    try:
        fuzz_specs(fuzz, range(seed, seed + num_specs))
        num_run = fuzz_plans(fuzz, range(seed, seed + num_plans), texts)
    except KeyboardInterrupt:
        print(f"interrupted after {fuzz.num_cases} cases", flush=True)
    return fuzz, num_run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--specs", type=int, default=100)
    parser.add_argument("--plans", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="distilc-fuzz-") as root:
        fuzz, num_run = fuzz_all(Path(root), options.specs, options.plans, options.seed)
        os.chdir("/")
    print(
        f"{options.specs} specs, {options.plans} plans ({num_run} sound enough to run): {len(fuzz.faults)} faults, "
        f"the longest case {fuzz.longest:.1f} s, {time.monotonic() - began:.0f} s in all"
    )
    return int(bool(fuzz.faults))


if __name__ == "__main__":
    sys.exit(main())
