"""The facts of `peek` -> tables for a terminal of 80 columns or more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

Facts = Mapping[str, Any]
HEAD, TAIL = 420, 120  # characters of a long text that are shown
LAST = 2  # positions of a target's end that are shown, beside its start


def print_facts(facts: Facts, console: Console) -> None:
    """Everything, the remarks last, where they are not missed."""
    console.print(Text(f"{facts['name']}: one micro-batch as the model sees it", "bold"))
    for note in facts["notes"]:
        console.print(Text(f"note: {note}", "yellow"))
    console.print(_batch(facts))
    for row in facts["rows"]:
        console.print(_row(row))
    console.print(_layers(facts))
    console.print(_objective(facts))
    if facts["remarks"]:
        console.print(Text("remarks", "bold"))
        for remark in facts["remarks"]:
            console.print(Padding(Text(f"! {remark}", "yellow"), (0, 0, 0, 2)))
    else:
        console.print("nothing to remark")


def _batch(facts: Facts) -> Table:
    step, batch, data = facts["step"], facts["batch"], facts["data"]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    where = "a row that is in no step of the first epoch, alone"
    if step["number"] is not None:
        devices = f" on {step['devices']} devices" if step["devices"] > 1 else ""
        where = f"{batch['number']} of {step['micro_batches']} of step {step['number']}{devices}"
    whole = "not known" if data["truncated"] is None else _shares(data["truncated"])
    lines = [
        ("micro-batch", where),
        ("step", f"{step['examples']:,} examples, {step['tokens']:,} tokens (batch: {step['batch']['size']:,} "
                 f"{step['batch']['unit']}); at most {step['of']:,} steps"),
        ("shape", f"{batch['rows']} rows; sources {batch['source_width']}, targets {batch['target_width']} wide"),
        ("padding", _shares(batch["padding"])),
        ("cut, here", _shares(data["truncated_in_batch"])),
        ("cut, all rows", f"{whole}; max_source_tokens {data['max_source_tokens']}, "
                          f"max_target_tokens {data['max_target_tokens']}"),
        ("data", f"{data['rows']:,} rows; targets: {data['targets']}"),
        *([("prefix", repr(data["prefix"]))] if data["prefix"] else []),
        *facts["artifacts"].items(),
    ]  # fmt: skip
    for name, text in lines:
        table.add_row(name, Text(text))
    return table


def _shares(percent: Mapping[str, float]) -> str:
    return f"{percent['source']:.1f} % of the sources, {percent['target']:.1f} % of the targets"


def _row(row: Facts) -> Group:
    head = Text(f"\nrow {row['row']}", "bold")
    head.append(f"  id {row['id']}", "dim")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for side in ("source", "target"):
        kept, whole = row[f"{side}_length"], row[f"whole_{side}_length"]
        length = f"{kept} tokens" + (f" of {whole}: cut" if whole > kept else "")
        padding = row[f"{side}_padding"]
        table.add_row(side, Text(_shortened(row[side])))
        marks = f"1 x {kept}, 0 x {padding}" if side == "source" else f"{kept} labels count, {padding} do not"
        table.add_row("", Text(f"{length}; mask: {marks}", "dim"))
    return Group(head, table, _positions(row["positions"]))


def _positions(positions: Sequence[Facts]) -> Table:
    """What is read against the label, and what the models expect there."""
    who = [name for name in ("teacher", "student") if any(name in at for at in positions)]
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("decoder input", overflow="fold")
    table.add_column("label", overflow="fold")
    for name in who:
        table.add_column(f"{name} expects", overflow="fold", ratio=1)
    with_top = [at for at in positions if who and who[0] in at]
    real = [at for at in positions if at["counts"]]
    shown = [*with_top, *(at for at in real[-LAST:] if at not in with_top)]
    before = -1
    for at in shown:
        if at["position"] > before + 1:
            table.add_row("", "...", "...")
        before = at["position"]
        label = Text(at["label"], "" if at["counts"] else "dim")
        table.add_row(str(at["position"]), Text(at["decoder_input"]), label,
                      *(_expected(at.get(name), at["label"]) for name in who))  # fmt: skip
    return table


def _expected(top: Sequence[Sequence[Any]] | None, label: str) -> Text:
    text = Text()
    for i, (token, probability) in enumerate(top or ()):
        text.append("  " if i else "")
        share = "" if probability is None else f":{100 * probability:.0f}%"
        text.append(f"{token}{share}", "bold green" if token == label else "")
    return text


def _layers(facts: Facts) -> Group:
    """A line a layer; a stack whose layers are all alike is told in one."""
    lines: list[Any] = [Text("\nlayers", "bold")]
    for stack in dict.fromkeys(layer["stack"] for layer in facts["layers"]):
        found = [layer for layer in facts["layers"] if layer["stack"] == stack]
        plain = all(layer["copied_from"] == layer["layer"] and layer["looks_at"] is None for layer in found)
        if plain and len({layer["origin"] for layer in found}) == 1:
            frozen = ", frozen" if stack in facts["student"]["freeze"] else ""
            shared = "; it runs once for both" if frozen and facts["teacher"]["shares_encoder"] else ""
            words = f"  {stack}: {len(found)} layers, each a copy of that of {_origin(found[0])}{frozen}{shared}"
            lines.append(Text(f"{words}; compared with no layer of the teacher"))
            continue
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for title in (f"{stack} layer", "copied from", "looks at (φ)"):
            table.add_column(title)
        for layer in found:
            copied = "random" if layer["copied_from"] is None else f"layer {layer['copied_from']} of {_origin(layer)}"
            looks = "-" if layer["looks_at"] is None else f"layer {layer['looks_at']} of the teacher"
            table.add_row(str(layer["layer"]), copied, looks)
        lines.append(table)
    return Group(*lines)


def _origin(layer: Facts) -> str:
    return "the teacher" if layer["origin"] == "teacher" else f"the {str(layer['origin']).replace('_', ' ')}"


def _objective(facts: Facts) -> Group:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for title in ("term", "weight", "mean over", "in the step", "on the rows shown", "weighted"):
        table.add_column(title, justify="left" if title in ("term", "mean over") else "right")
    for term in facts["objective"]:
        table.add_row(
            term["term"], f"{term['weight']:g}{_schedule(term)}", term["items"].replace("-", " "),
            f"{term['items_of_step']:,}", f"{term['value']:.4f}", f"{term['weight'] * term['value']:.4f}",
        )  # fmt: skip
    return Group(Text("\nobjective", "bold"), table)


def _schedule(term: Facts) -> str:
    return "" if term["schedule"] is None else " ({:g} to {:g})".format(*term["schedule"])


def _shortened(text: str) -> str:
    return text if len(text) <= HEAD + TAIL + 20 else f"{text[:HEAD]} [...] {text[-TAIL:]}"
