"""DeepSpeed's Adam for optimizer states that are kept in the host's memory. Its C++ is compiled when it is first used.

The engine refuses torch's AdamW there: it would step with one thread, on tensors that never leave the host.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..failure import Failure

BUILD_SECONDS = 1200  # a build takes about half a minute; one that takes longer than this was killed
INSTALL = f"{sys.executable} -m pip install ninja; apt-get install g++"


def cpu_adam(parameters: Sequence[Any], **settings: Any) -> Any:
    """AdamW (decoupled weight decay, bias correction). `settings`: lr, betas, eps, weight_decay.

    Raises `Failure` R370: it cannot be compiled on this machine."""
    if missing := missing_tools():
        raise _failure(f"there is no {' and no '.join(missing)}", INSTALL)
    _find_ninja()
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    try:
        with _alone():
            return DeepSpeedCPUAdam(parameters, adamw_mode=True, **settings)
    except (ImportError, RuntimeError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise _failure(lines[0], "distilc doctor; the log of the stage has what the compiler said") from error


def missing_tools() -> list[str]:
    """The programs needed to compile that are not on this machine."""
    return [name for name in ("c++", "ninja") if tool(name) is None]


def tool(name: str) -> str | None:
    """The path of a program: on PATH, or beside the running Python."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def _find_ninja() -> None:
    """torch looks in PATH only, which lacks the programs of a virtual environment that is not activated."""
    if shutil.which("ninja") is None:
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


@contextmanager
def _alone() -> Iterator[None]:
    """One process of a machine compiles at a time. torch has a lock file of its own for this, which stays when its
    owner is killed and for which the next one waits forever; so one that a process of ours has left is removed."""
    folder = _folder()
    if folder is None:
        yield
        return
    with (folder / "distilc.lock").open("a+") as ours:
        fcntl.flock(ours, fcntl.LOCK_EX)  # released by the system, however a process ends
        ours.seek(0)
        theirs = folder / "lock"
        if ours.read():
            theirs.unlink(missing_ok=True)
        while theirs.exists():
            age = time.time() - theirs.stat().st_mtime
            if age > BUILD_SECONDS:
                raise _failure(f"a build that began {age / 60:.0f} minutes ago has not ended", f"rm {theirs}")
            time.sleep(0.5)
        ours.write("at work")
        ours.flush()
        yield
        ours.truncate(0)


def _folder() -> Path | None:
    """Where torch compiles to; it has no public name."""
    from torch.utils import cpp_extension

    folder = getattr(cpp_extension, "_get_build_directory", None)
    return None if folder is None else Path(folder("cpu_adam", verbose=False))


def _failure(why: str, hint: str) -> Failure:
    return Failure("R370", f"DeepSpeed's CPU Adam, which offloading steps with, cannot be compiled: {why}",
                   f"{hint}; or leave offload out of the site")  # fmt: skip
