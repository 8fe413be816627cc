"""A run's summary -> the result table: baselines, teacher and student, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ..execution.other_work import QUIET
from ..messages.notices import OF_EVERY_RUN
from ..messages.terminal import aligned, drawing_console
from ..metrics.score import how_scored
from .summary import disturbed

DISTURBED = "~"  # before a number that was measured beside other work
DIFFERENT_LENGTHS = 1.5  # of two texts, the longer over the shorter


@dataclass(frozen=True)
class Cell:
    """`interval` stands behind the value where there is room, else below it."""

    value: str
    interval: str = ""

    @property
    def text(self) -> str:
        return f"{self.value} {self.interval}".rstrip()


@dataclass(frozen=True)
class Table:
    """`rows[0]` is the header. The first column is words, the others are numbers."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]


def result_tables(summary: Mapping[str, Any]) -> list[Table]:
    """One table for each test set; parameters and speed stand in the first. No test set: a table without
    scores."""
    sets: Mapping[str, Any] = summary["test_sets"] or {"": _no_scores()}
    title = f"{summary['name']} ({summary['task']})"
    names = {name: f"{title}, {name}" if len(sets) > 1 else title for name in sets}
    return [
        Table(names[name], _rows(summary, scores, name, with_sizes=number == 0))
        for number, (name, scores) in enumerate(sets.items())
    ]


def table_text(summary: Mapping[str, Any], width: int) -> str:
    """For people: drawn on a terminal, plain aligned text elsewhere. At most `width` columns, where the words
    and the numbers fit."""
    blocks = [shown(table, width) for table in result_tables(summary)]
    return "\n\n".join(blocks) + "\n" + "\n".join([footnote(summary), *_warnings(summary)])


def shown(table: Table, width: int) -> str:
    """One table for people."""
    return (_drawn if sys.stdout.isatty() else _plain)(table, width)


def table_markdown(summary: Mapping[str, Any]) -> str:
    """The same tables in Markdown."""
    return "\n\n".join([*map(in_markdown, result_tables(summary)), footnote(summary), *_warnings(summary)]) + "\n"


def in_markdown(table: Table) -> str:
    """One table in Markdown."""
    header, *rows = table.rows
    lines = [_markdown_row(header), "|---|" + "---:|" * (len(header) - 1), *map(_markdown_row, rows)]
    return f"**{table.title}**\n\n" + "\n".join(lines)


def _warnings(summary: Mapping[str, Any]) -> list[str]:
    """What makes the scores say little, whichever run it was noticed in; a line each."""
    return [f"warning: {found['message']}" for found in summary.get("warnings", ()) if found["code"] in OF_EVERY_RUN]


def footnote(summary: Mapping[str, Any]) -> str:
    """How to read the table, and how the training ended; one line."""
    parts = []
    first: Mapping[str, Any] = next(iter(summary["test_sets"].values()), _no_scores())
    if any(summary["intervals"].values()):
        over = "masked tokens" if any("tokens" in entry for entry in first["student"].values()) else "examples"
        parts.append(f"in brackets: 95 % interval (bootstrap over {over})")
    parts += how_scored({**first["teacher"], **first["student"]})
    parts += _expectations(summary, first)
    if summary["speed"]["student"]:
        parts.append(_of_speed(summary))
    for number, training in enumerate(summary.get("phases", [summary["training"]]), 1):
        if training:
            what = f"phase {number}" if "phases" in summary else "training"
            parts.append(f"{what} stopped by {training['stopped_by']} after {training['steps']} steps")
    return "; ".join(parts)


def _expectations(summary: Mapping[str, Any], scores: Mapping[str, Any]) -> Iterator[str]:
    """Where the expected scores come from, and which of them were not reproduced."""
    for who, expected in summary.get("expect", {}).items():
        source = f" ({expected['source']})" if expected["source"] else ""
        measured = {name: scores[who][name]["value"] for name in expected["scores"] if name in scores[who]}
        if expected["within"] is None or not measured:
            if source:
                yield f"expected of the {who}: published scores{source}"
            continue
        missed = [
            f"{name} by {value - expected['scores'][name]:+.2f}"
            for name, value in measured.items()
            if abs(value - expected["scores"][name]) > expected["within"]
        ]
        verdict = f"missed: {', '.join(missed)}" if missed else "reproduced"
        yield f"expected of the {who}{source}, within {expected['within']:g}: {verdict}"


def _of_speed(summary: Mapping[str, Any]) -> str:
    """How speed was measured, and what makes two of the numbers hard to compare."""
    speed, compared = summary["speed"]["student"], summary["speed_compared"]
    by = {who: found["engine"] for who, found in compared.items() if "engine" in found}
    engines = " and ".join(dict.fromkeys(by.values()))
    if len(set(by.values())) > 1:
        engines = ", ".join(f"the {who}'s by {engine}" for who, engine in by.items())
    place = f"batches of {speed['batch_size']} on {speed['device']}"
    remarks = [*_other_engines(summary), *_beams(compared), *_lengths(compared), *_disturbances(summary)]
    if sizes := _latency_batches(summary):
        what = " and of ".join(sizes)
        remarks.insert(0, f"ms: for a batch of {what}, median and in brackets 5 % and 95 % of the batches")
    notes = {name: found["speed"].get("note") for name, found in summary["exports"].items()}
    remarks += [f"{name}: {note}" for name, note in notes.items() if note]
    remark = f" ({'; '.join(remarks)})" if remarks else ""
    decoding = ", decoding included" if any("beams" in found for found in compared.values()) else ""
    return f"speed: {place}{f' by {engines}' if engines else ''}{decoding}{remark}"


def _other_engines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the plan's engine does, where the table has another for the sake of comparison."""
    for who, found in summary["speed"].items():
        if found.get("engine") != summary["speed_compared"].get(who, {}).get("engine"):
            yield f"as planned, the {who} is written by {found['engine']}: {_rate(found).value} examples/s"


def _beams(compared: Mapping[str, Any]) -> Iterator[str]:
    """How wide the searches are, where one is wider: it takes longer and finds more."""
    beams = {who: found["beams"] for who, found in compared.items() if "beams" in found}
    if len(set(beams.values())) > 1:
        yield "beams: " + " and ".join(f"{found} for the {who}" for who, found in beams.items())


def _lengths(compared: Mapping[str, Any]) -> Iterator[str]:
    """How long the texts are, where the teacher's and the student's differ much: a longer text takes longer."""
    tokens = {
        who: found["tokens_per_second"] / found["examples_per_second"]
        for who, found in compared.items()
        if found.get("tokens_per_second")
    }
    if len(tokens) == 2 and max(tokens.values()) > DIFFERENT_LENGTHS * min(tokens.values()):
        lengths = " and ".join(f"{found:.0f} for the {who}" for who, found in tokens.items())
        yield f"tokens of a text: {lengths}"


def _disturbances(summary: Mapping[str, Any]) -> Iterator[str]:
    """Whose speed was measured beside other work."""
    exports = {f"student-{_form(name)}": found["speed"] for name, found in summary["exports"].items()}
    measured = {**summary["speed"], **exports}
    again = [f"--redo benchmark-{who}" for who, found in measured.items() if found.get("other_work", 0.0) > QUIET]
    if again:
        yield f"{DISTURBED}: measured beside other work, which is no result; measure again: {' '.join(again)}"


def _form(name: str) -> str:
    """`ctranslate2 int8` -> `int8`, as its stages are called."""
    return name.rpartition(" ")[2]


def _rows(
    summary: Mapping[str, Any], scores: Mapping[str, Any], name_of_set: str, *, with_sizes: bool
) -> tuple[tuple[Cell, ...], ...]:
    metrics = list(dict.fromkeys([*scores["teacher"], *scores["student"]]))
    with_speed = with_sizes and any(summary["speed"].values())
    header = [Cell(""), *map(Cell, metrics)]
    header += [Cell("params")] * with_sizes + [Cell("examples/s"), Cell("speed-up")] * with_speed
    batches = _latency_batches(summary) if with_speed else []
    header += [Cell(f"ms, {size}") for size in batches]
    rows = [header]
    for name, found in scores["baselines"].items():
        row = [Cell(f"{name} baseline"), *(_score(found, metric) for metric in metrics)]
        rows.append(row + _known(summary, name, with_sizes, with_speed))
    for who in ("teacher", "student"):
        row = [Cell(label_of(summary, who)), *(_score(scores[who], metric) for metric in metrics)]
        row += [Cell(f"{summary['parameters'][who] / 1e6:.1f}M")] * with_sizes
        if with_speed:
            speed = summary["speed_compared"].get(who, {})
            row += [_rate(speed), _speedup(summary, who), *(_latency(speed, size) for size in batches)]
        rows.append(row)
        if published := _published(summary, who, name_of_set, metrics, is_first=with_sizes):
            rows.append([Cell(f"{who}, expected"), *(_score(published, metric) for metric in metrics)])
    for form, found in summary["exports"].items():
        of_set = found["test_sets"].get(name_of_set, {})
        row = [Cell(f"student, {form}"), *(_score(of_set, metric) for metric in metrics)]
        row += [Cell(f"{summary['parameters']['student'] / 1e6:.1f}M")] * with_sizes
        if with_speed:
            speed = {**found["speed"], **found["speed"].get("engines", {}).get(found["speed"].get("engine"), {})}
            row += [_rate(speed), _export_speedup(summary, speed), *(_latency(speed, size) for size in batches)]
        rows.append(row)
    if scores["retention"]:
        shares = scores["retention"]
        rows.append(
            [Cell("student keeps"), *(Cell(f"{shares[name]:.1f} %" if name in shares else "") for name in metrics)]
        )
        if with_sizes:
            rows[-1].append(Cell(f"{100 * summary['parameters']['student'] / summary['parameters']['teacher']:.1f} %"))
    return tuple(tuple(row + [Cell("")] * (len(header) - len(row))) for row in rows)


def _published(
    summary: Mapping[str, Any], who: str, name_of_set: str, metrics: Sequence[str], *, is_first: bool
) -> dict[str, Any]:
    """What is expected of a model on a test set; a metric without the name of one is of the first."""
    said = summary.get("expect", {}).get(who, {}).get("scores", {})
    found = {name: said.get(f"{name_of_set}.{name}", said.get(name) if is_first else None) for name in metrics}
    return {name: {"value": value} for name, value in found.items() if value is not None}


def _known(summary: Mapping[str, Any], name: str, with_sizes: bool, with_speed: bool) -> list[Cell]:
    """Size and speed of a system of others, as far as its spec says them."""
    facts = summary.get("baseline_facts", {}).get(name, {})
    size, speed = facts.get("million_parameters"), facts.get("examples_per_second")
    cells = [Cell("" if size is None else f"{size:.1f}M")] * with_sizes
    return cells + [_rate({} if speed is None else {"examples_per_second": speed})] * with_speed


def label_of(summary: Mapping[str, Any], who: str) -> str:
    """What a row of a model is called."""
    model = summary["models"][who]
    shape = "-".join(str(model[layers]) for layers in ("encoder_layers", "decoder_layers") if model[layers])
    return f"{who} {model['family']} {shape}"


def _score(scores: Mapping[str, Any], metric: str) -> Cell:
    entry = scores.get(metric)
    if entry is None:
        return Cell("")
    if metric == "loss":
        return Cell(f"{entry['value']:.4f}")
    interval = f"[{entry['low']:.1f}, {entry['high']:.1f}]" if "low" in entry else ""
    return Cell(f"{entry['value']:.2f}", interval)


def _rate(speed: Mapping[str, Any]) -> Cell:
    if not speed:
        return Cell("")
    rate = float(speed["examples_per_second"])
    return Cell(_mark(speed) + (f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"))


def _latency_batches(summary: Mapping[str, Any]) -> list[str]:
    """The sizes of the batches whose latency was measured, of tasks in which nothing is written."""
    found = [size for speed in summary["speed_compared"].values() for size in speed.get("latency_ms", ())]
    return list(dict.fromkeys(found))


def _latency(speed: Mapping[str, Any], size: str) -> Cell:
    """The median, and the 5 % and 95 % beside it."""
    found = speed.get("latency_ms", {}).get(size)
    if found is None:
        return Cell("")
    interval = f"[{found['p5']:.3g}, {found['p95']:.3g}]" if "p5" in found else ""
    return Cell(f"{_mark(speed)}{found['p50']:.3g}", interval)


def _mark(*speeds: Mapping[str, Any]) -> str:
    return DISTURBED if disturbed(dict(enumerate(speeds))) else ""


def _speedup(summary: Mapping[str, Any], who: str) -> Cell:
    found = summary["speedup"] if summary["speedup"] is not None else summary.get("speedup_disturbed")
    if found is None:
        return Cell("")
    mark = _mark(*summary["speed_compared"].values())
    return Cell("1.00x" if who == "teacher" else f"{mark}{found:.2f}x")


def _export_speedup(summary: Mapping[str, Any], speed: Mapping[str, Any]) -> Cell:
    """Of a served form against the teacher of the table."""
    teacher = summary["speed_compared"].get("teacher")
    if not speed or not teacher:
        return Cell("")
    return Cell(f"{_mark(speed, teacher)}{speed['examples_per_second'] / teacher['examples_per_second']:.2f}x")


def _no_scores() -> dict[str, Any]:
    return {"teacher": {}, "student": {}, "baselines": {}, "retention": {}}


# --- drawing ---------------------------------------------------------------------------------------


def _plain(table: Table, width: int) -> str:
    lines = aligned([[cell.text for cell in row] for row in table.rows], right=True, rule=True)
    if max(map(len, lines)) > width:
        values_and_intervals = [zip(*((cell.value, cell.interval) for cell in row), strict=True) for row in table.rows]
        lines = aligned([line for lines in values_and_intervals for line in lines if any(line)], right=True, rule=True)
    return "\n".join([table.title, *lines])


def _drawn(table: Table, width: int) -> str:
    from rich import box
    from rich.table import Table as RichTable

    header, *rows = table.rows
    one_line = sum(max(len(row[i].text) for row in table.rows) + 2 for i in range(len(header))) <= width
    drawing = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold")
    for number, cell in enumerate(header):
        drawing.add_column(cell.value, justify="right" if number else "left", no_wrap=one_line)
    for row in rows:
        style = "bold" if row[0].value.startswith("student") else ""
        drawing.add_row(*(_styled(cell, " " if one_line else "\n") for cell in row), style=style)
    output = StringIO()
    drawing_console(file=output, width=width, force_terminal=True).print(drawing)
    return output.getvalue().rstrip("\n")


def _styled(cell: Cell, between: str) -> Any:
    from rich.text import Text

    text = Text(cell.value)
    if cell.interval:
        text.append(between + cell.interval, "dim")
    return text


def _markdown_row(row: Sequence[Cell]) -> str:
    return "| " + " | ".join(cell.text.replace("|", "\\|") for cell in row) + " |"
