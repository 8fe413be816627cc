"""The layers of a stack as a drawing: which teacher layer each student layer is copied from, and which one it
learns from.

    teacher             student
    ┌────┐
    │  0 ├─────────────▶│ 0 │┄┐
    │  1 │                    ┊
    │  2 │                    ┊
    │  3 │◀┄ 0 ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┘

A row is a teacher layer; a student layer stands at the row that it is copied from, and its φ runs in a lane to
the right of the students, back to the row that supervises it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..diagnostics.record import record

WHOLE_UP_TO = 16  # deeper stacks are drawn without their idle stretches
LONGEST_NAME = 40
MOST_LANES = 36  # beyond them a φ is only told by its number, where it arrives
_IDLE_ROWS = 3  # as many in a row are drawn as one

_LEFT, _GAP = 2, 14
_COPY, _FRAME = "36", "2"  # colours of a terminal
_LANES = ("35", "33", "32", "34", "31")


@record
class LayerMap:
    """`copied` None: random weights; `phi` None: nothing supervises. Both name a layer for each student layer,
    `copied` of `origin` and `phi` of the teacher; `foreign`: those are two models."""

    origin: str
    origin_depth: int
    teacher_depth: int
    copied: Sequence[int] | None
    phi: Sequence[int] | None
    foreign: bool = False


def draw_layers(layers: LayerMap, *, color: bool = False) -> list[str]:
    """The lines of the drawing, without a margin on the right. [] when nothing is copied nor supervised."""
    if layers.copied is None and layers.phi is None:
        return []
    return _Drawing(layers).lines(color)


@record
class _Wire:
    """A φ: from the line of a student to the line of the teacher layer that it learns from, in a lane."""

    student: int
    start: int
    end: int
    lane: int

    @property
    def span(self) -> range:
        return range(min(self.start, self.end), max(self.start, self.end) + 1)


class _Drawing:
    def __init__(self, layers: LayerMap) -> None:
        self.layers = layers
        self.cells: dict[tuple[int, int], tuple[str, str]] = {}
        depth = max(layers.origin_depth, layers.teacher_depth)
        students = len(layers.copied if layers.copied is not None else layers.phi or ())
        self.digits, self.student_digits = len(str(depth - 1)), len(str(max(0, students - 1)))
        self.rows = self._rows(depth)
        self.name = layers.origin if len(layers.origin) <= LONGEST_NAME else f"…{layers.origin[1 - LONGEST_NAME :]}"
        self.edge = _LEFT + self.digits + 3  # right border of the left column
        gap = max(_GAP, len(self.name) + 3 - (self.edge - _LEFT)) if layers.foreign else _GAP
        self.student_left = self.edge + gap + 1
        self.student_right = self.student_left + self.student_digits + 3

    def lines(self, color: bool) -> list[str]:
        students, arrivals = self._allot()
        wires = self._wires(students, arrivals)
        lanes = min(MOST_LANES, 1 + max((wire.lane for wire in wires), default=0))
        self.teacher_left = self.student_right + 2 * lanes + 6
        self._headers()
        self._columns()
        for student, line in students.items():
            self._student(student, line)
        for wire in wires:
            self._wire(wire)
        return self._render(color)

    # --- where everything stands ---------------------------------------------------------------------

    def _rows(self, depth: int) -> list[int | None]:
        """The layers that get lines, in order; None stands for an idle stretch."""
        busy = {*(self.layers.copied or ()), *(self.layers.phi or ())}
        if depth <= WHOLE_UP_TO:
            return list(range(depth))
        rows: list[int | None] = []
        stretch: list[int] = []
        for row in range(depth + 1):
            if row < depth and row not in busy:
                stretch.append(row)
                continue
            rows += [None] if len(stretch) >= _IDLE_ROWS else stretch
            stretch = []
            if row < depth:
                rows.append(row)
        return rows

    def _allot(self) -> tuple[dict[int, int], dict[int, int]]:
        """(student layer -> its line, student layer -> the line at which its φ arrives). A layer has a line
        for each of its copies and, below those, for each φ, which would run through the boxes otherwise."""
        copied, phi = self.layers.copied, self.layers.phi or ()
        students: dict[int, int] = {}
        arrivals: dict[int, int] = {}
        self.line_rows: list[tuple[int | None, bool]] = []  # (layer, is it the layer's first line?)
        for row in self.rows:
            here = [i for i, layer in enumerate(copied or ()) if layer == row]
            taught = [i for i, layer in enumerate(phi) if layer == row]
            first = len(self.line_rows)
            shared = self.layers.foreign or copied is None  # the two kinds of lines can be the same ones
            students.update({i: first + n for n, i in enumerate(here)})
            below = first if shared else first + len(here)
            arrivals.update({i: below + n for n, i in enumerate(taught)})
            if copied is None:
                students.update({i: below + n for n, i in enumerate(taught)})
            number = max(1, max(len(here), len(taught)) if shared else len(here) + len(taught))
            self.line_rows += [(row, n == 0) for n in range(number)]
        return students, arrivals

    def _wires(self, students: Mapping[int, int], arrivals: Mapping[int, int]) -> list[_Wire]:
        """The φ with their lanes, the short ones next to the students."""
        wires: list[_Wire] = []
        straight = self.layers.copied is None
        for student in sorted(arrivals, key=lambda i: (abs(students[i] - arrivals[i]), i)):
            start, end = students[student], arrivals[student]
            own = range(min(start, end), max(start, end) + 1)
            taken = {wire.lane for wire in wires if set(wire.span) & set(own)}
            lane = 0 if straight else next(lane for lane in range(len(arrivals)) if lane not in taken)
            wires.append(_Wire(student, start, end, lane))
        return wires

    # --- what is put there -------------------------------------------------------------------------

    def _put(self, line: int, column: int, text: str, style: str = "") -> None:
        for i, char in enumerate(text):
            self.cells[line, column + i] = (char, style)

    def _headers(self) -> None:
        self._put(-2, _LEFT, self.name if self.layers.foreign else "teacher")
        self._put(-2, self.student_left, "student")
        if self.layers.foreign:
            self._put(-2, self.teacher_left, "teacher")

    def _columns(self) -> None:
        if self.layers.copied is not None or not self.layers.foreign:
            self._column(_LEFT, self.layers.origin_depth)
        if self.layers.foreign and self.layers.phi is not None:
            self._column(self.teacher_left, self.layers.teacher_depth)

    def _column(self, left: int, depth: int) -> None:
        bar = "─" * (self.digits + 2)
        last = -1
        for line, (row, first) in enumerate(self.line_rows):
            if row is not None and row >= depth:
                continue
            number = "⋮" if row is None else str(row) if first else ""
            self._put(line, left, "│", _FRAME)
            self._put(line, left + 2, number.rjust(self.digits))
            self._put(line, left + self.digits + 3, "│", _FRAME)
            last = line
        self._put(-1, left, f"┌{bar}┐", _FRAME)
        self._put(last + 1, left, f"└{bar}┘", _FRAME)

    def _student(self, student: int, line: int) -> None:
        if self.layers.copied is not None:
            self._put(line, self.edge, "├", _COPY)
            self._put(line, self.edge + 1, "─" * (self.student_left - self.edge - 2) + "▶", _COPY)
        self._put(line, self.student_left, f"│ {str(student).rjust(self.student_digits)} │")

    def _wire(self, wire: _Wire) -> None:
        style = _LANES[wire.student % len(_LANES)]
        label = f" {str(wire.student).rjust(self.student_digits)} "
        if self.layers.copied is None:
            self._put(wire.end, self.edge + 1, "◀" + "┄" * (self.student_left - self.edge - 2), style)
            return
        x = self.student_right + 2 + 2 * wire.lane
        if self.layers.foreign and wire.end == wire.start:
            self._horizontal(wire.end, self.student_right + 1, self.teacher_left - 1, style)
            self._put(wire.end, self.teacher_left - 1, "▶", style)
            return
        if wire.lane >= MOST_LANES:
            arrow, column = f"◀┄{label}┄", self.edge + 1
            if self.layers.foreign:
                arrow, column = f"┄{label}┄▶", self.teacher_left - len(label) - 3
            self._put(wire.end, column, arrow, style)
            return
        self._horizontal(wire.start, self.student_right + 1, x, style)
        for line in wire.span:
            self._cross(line, x, "┊", style)
        down = wire.end > wire.start
        if self.layers.foreign:
            self._horizontal(wire.end, x + 1, self.teacher_left - 1, style)
            self._put(wire.end, self.teacher_left - 1, "▶", style)
            self._put(wire.start, x, "┐" if down else "┘", style)
            self._put(wire.end, x, "└" if down else "┌", style)
            return
        self._put(wire.start, x, "┐" if down else "┘", style)
        self._put(wire.end, x, "┘" if down else "┐", style)
        self._horizontal(wire.end, self.edge + 1, x, style)
        self._put(wire.end, self.edge + 1, "◀", style)
        self._put(wire.end, self.edge + 3, label, style)

    def _horizontal(self, line: int, start: int, stop: int, style: str) -> None:
        for column in range(start, stop):
            self._cross(line, column, "┄", style)

    def _cross(self, line: int, column: int, char: str, style: str) -> None:
        """Put a piece of a wire; over one that runs the other way it is a crossing."""
        under = self.cells.get((line, column), (" ", ""))[0]
        crossing = {("┊", "┄"), ("┄", "┊"), ("┼", "┄"), ("┼", "┊")}
        self._put(line, column, "┼" if (under, char) in crossing else char, style)

    def _render(self, color: bool) -> list[str]:
        lines = []
        bottom = max(line for line, _ in self.cells)
        for line in range(-2, bottom + 1):
            width = max((column for at, column in self.cells if at == line), default=-1) + 1
            text, style = "", ""
            for column in range(width):
                char, wanted = self.cells.get((line, column), (" ", ""))
                if color and wanted != style and char != " ":
                    text += f"\033[0m\033[{wanted}m" if wanted else "\033[0m"
                    style = wanted
                text += char
            lines.append(text.rstrip() + ("\033[0m" if style else ""))
        return lines
