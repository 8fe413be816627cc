"""The hostfile of a site: which machines there are, with how many devices, one line each.

    # two boxes under the desk
    root@192.168.1.7 slots=1
    worker-2 slots=8
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..diagnostics.diagnostic import Position, Reporter, quoted, shown_path
from ..diagnostics.record import record
from ..spec.parse import MAX_BYTES, decode

LINE = "write `NAME slots=DEVICES`, for example `worker-1 slots=8`"
NAME = re.compile(r"(?:[\w.-]+@)?[A-Za-z0-9_:](?:[\w.:-]*[A-Za-z0-9_])?", re.ASCII)  # as ssh takes it, never an option
SLOTS = re.compile(r"slots=([1-9]\d{0,5})", re.ASCII)


@record
class Host:
    """`slots_at`: where the number of its devices is written."""

    name: str
    slots: int
    slots_at: Position


def check_hostfile(path: Path, nodes: int, per_node: int, reporter: Reporter, texts: dict[str, str]) -> None:
    """Report, as E321, what cannot be read as a machine, a machine that is there twice, and machines or devices that
    are fewer than asked for. `texts` takes the text of the file, for printing diagnostics."""
    name = shown_path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        reporter.error("E306", ("devices", "hostfile"), f"cannot read {name}: {error.strerror}")
        return
    if len(content) > MAX_BYTES:
        reporter.error("E321", ("devices", "hostfile"), f"{name} has more than {MAX_BYTES:,} bytes", LINE)
        return
    text = decode(content, name, reporter)
    if text is None:
        return
    texts[name] = text
    hosts: dict[str, Host] = {}
    sound = True
    for host in _hosts(text, name, reporter):
        if host is None:
            sound = False
        elif (machine := host.name.rpartition("@")[2].lower()) in hosts:
            first, place = hosts[machine].slots_at.line, Position(name, host.slots_at.line, 1)
            reporter.error_at("E321", place, f"{quoted(machine)} is named twice, first in line {first}",
                              "write one line per node, with all its devices")  # fmt: skip
            sound = False
        else:
            hosts[machine] = host
    for host in list(hosts.values())[:nodes]:
        if host.slots < per_node:
            reporter.error_at(
                "E321", host.slots_at,
                f"{quoted(host.name)} has {host.slots} devices, and {per_node} per node are asked for",
                "use fewer (`devices: {per_node: N}`, --devices N), or remove the node from the file",
            )  # fmt: skip
    if sound and len(hosts) < nodes:
        reporter.error(
            "E321", ("devices", "nodes"), f"{nodes} nodes, and the hostfile {name} names {len(hosts)}",
            "add a line `NAME slots=DEVICES` for each node, or use fewer",
        )  # fmt: skip


def _hosts(text: str, name: str, reporter: Reporter) -> Iterator[Host | None]:
    """The machines line by line; None for a line that was reported."""
    for number, line in enumerate(text.split("\n"), 1):
        words = list(re.finditer(r"\S+", line.partition("#")[0]))
        if not words:
            continue
        wrong, why = _wrong(words)
        if wrong is not None:
            reporter.error_at("E321", Position(name, number, wrong.start() + 1), why, LINE)
            yield None
            continue
        slots = SLOTS.fullmatch(words[1].group())
        assert slots is not None
        yield Host(words[0].group(), int(slots[1]), Position(name, number, words[1].start() + 1))


def _wrong(words: list[re.Match[str]]) -> tuple[re.Match[str] | None, str]:
    """The first word of a line that does not belong there, and why."""
    if NAME.fullmatch(words[0].group()) is None:
        return words[0], f"{quoted(words[0].group())} is not a host name"
    if len(words) == 1:
        return words[0], f"{quoted(words[0].group())} has no number of devices"
    if SLOTS.fullmatch(words[1].group()) is None:
        return words[1], f"{quoted(words[1].group())} is not `slots=` with a number of devices"
    return (words[2], f"{quoted(words[2].group())} is not expected here") if len(words) > 2 else (None, "")
