"""The machines of a hostfile: which they are, whether they can be used, and how a command is started on one.

Over ssh, whatever the login shell there: a plain `sh` reads a script from its standard input, so that no variable's
value is in a list of processes. As a program it is what a machine is asked: `nodes CONTROL_FOLDER`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..failure import Failure
from ..messages.terminal import tell
from .control import Control
from .heartbeat import read_process
from .processes import free_port

# A connection that is lost is given up after 30 seconds.
SSH_OPTIONS = ("BatchMode=yes", "ConnectTimeout=20", "ServerAliveInterval=10", "ServerAliveCountMax=3")
ASK_SECONDS = 120.0
NOT_REACHED = 255  # ssh's own exit code
HOST = re.compile(r"(?P<name>[^\s#-]\S*)\s+slots=(?P<slots>\d+)\s*(#.*)?", re.ASCII)
# Variables that libraries read, the same on every machine. HOME and the like, and what the launcher sets, are not.
CARRIED = re.compile(
    "(CT2|CUDA|DISTILC|DS|FI|GLOO|HF|HUGGINGFACE|KMP|MKL|NCCL|OMP|PYTORCH|TOKENIZERS|TP|TRANSFORMERS|UCX)_.*"
    "|PYTHON.*|TORCH.*|LANG|LC_.*|LD_LIBRARY_PATH|PATH|XDG_CACHE_HOME|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY"
)
OWN = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Rendezvous:
    """Where the processes of all machines meet: a port of the first one."""

    address: str
    port: int


def read_hosts(file: Path, number: int) -> list[str]:
    """The first machines of a hostfile, `[USER@]NAME slots=DEVICES` a line.

    Raises `Failure` R120: it cannot be read, or names fewer."""
    again = "correct it, and check it with `distilc check --site FILE SPEC`"
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Failure("R120", f"cannot read the hostfile {file}: {reason}", again) from error
    hosts: list[str] = []
    for i, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = HOST.fullmatch(line.strip())
        if found is None or found["name"] in hosts:
            what = "not `NAME slots=DEVICES`" if found is None else f"{found['name']} is listed twice"
            raise Failure("R120", f"{file}:{i}: {what}", again)
        hosts.append(found["name"])
    if len(hosts) < number:
        raise Failure("R120", f"the hostfile {file} names {len(hosts)} machines, and the plan is for {number}", again)
    return hosts[:number]


def ask_hosts(hosts: Sequence[str], control: Control, environment: Mapping[str, str]) -> Rendezvous:
    """Ask every machine whether it can be reached, has this Python environment and sees the workspace.

    Raises `Failure` R121 that names each machine that does not, with what it said."""
    command = [sys.executable, "-m", f"{__package__}.nodes", str(control.folder)]
    with ThreadPoolExecutor(min(len(hosts), 32)) as pool:
        answers = list(pool.map(lambda host: _ask(host, command, environment), hosts))
    wrong = [(host, *answer) for host, answer in zip(hosts, answers, strict=True) if isinstance(answer, tuple)]
    if wrong:
        told = "; ".join(f"{host}: {reason}" for host, reason, _ in wrong)
        raise Failure("R121", f"cannot start processes on {len(wrong)} of {len(hosts)} machines: {told}", wrong[0][2])
    port = answers[0]
    assert isinstance(port, int)
    return Rendezvous(_address(hosts[0]), port)


def ssh_command(host: str) -> list[str]:
    """What runs a script (its standard input) on a machine."""
    return ["ssh", "-T", *(word for option in SSH_OPTIONS for word in ("-o", option)), "--", host, "exec /bin/sh -s"]


def remote_script(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """The script that becomes this command, in the folder that this process is in, with the variables that matter."""
    carried = {name: value for name, value in environment.items() if CARRIED.fullmatch(name) and name not in OWN}
    lines = [f"cd {shlex.quote(os.getcwd())} || exit", *(f"export {k}={shlex.quote(v)}" for k, v in carried.items())]
    return "\n".join([*lines, f"exec {shlex.join(command)}"]) + "\n"


def _ask(host: str, command: Sequence[str], environment: Mapping[str, str]) -> int | tuple[str, str]:
    """A free port of the machine; or what is wrong with it, and what to do."""
    script = remote_script(command, environment)
    try:
        answer = subprocess.run(ssh_command(host), input=script, capture_output=True, text=True, timeout=ASK_SECONDS)
    except FileNotFoundError:
        return "ssh is not installed here", "install ssh (Debian: apt-get install openssh-client)"
    except subprocess.TimeoutExpired:
        return f"no answer within {ASK_SECONDS:.0f} s", f"try: ssh {host} true"
    said = (answer.stderr.strip() or "no answer").splitlines()[-1]
    if answer.returncode == NOT_REACHED:
        return said, f"it must be reached without a password: ssh -o BatchMode=yes {host} true"
    try:
        facts = json.loads(answer.stdout.splitlines()[-1])
        port, sees = int(facts["port"]), bool(facts["sees"])
    except (ValueError, KeyError, TypeError, IndexError):
        return said, f"{sys.executable}, with distilc, and the folder {os.getcwd()} must be there as they are here"
    if not sees:
        return f"there is no {command[-1]}", "all machines must share the folder of the workspace (--workspace DIR)"
    return port


def _address(host: str) -> str:
    """The name or number by which other machines reach it: ssh may know it by a nickname."""
    answer = subprocess.run(["ssh", "-G", "--", host], capture_output=True, text=True)
    found = re.search(r"^hostname (\S+)$", answer.stdout, re.MULTILINE)
    return found[1] if found is not None else host.rpartition("@")[2]


def main(argv: Sequence[str]) -> int:
    """Prints, as JSON, whether this machine sees the driver of a control folder, and a port that is free here."""
    sees = read_process(Control(Path(argv[0])).driver_file) is not None
    tell(json.dumps({"sees": sees, "port": free_port()}, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
