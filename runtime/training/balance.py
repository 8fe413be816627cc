"""Warnings of terms whose share of the loss is so small, or so large, that they or the others have no effect.

It reads numbers that are on the host to be logged anyway, stops nothing, and warns once of each term.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from ..messages.notices import Notice
from .schedule import Change

WINDOW_STEPS = 50  # what is judged is the mean of so many steps in a row, after the warm-up
VANISHING = 0.001  # a share of the loss below which a term does nothing
SWAMPING = 0.99  # a share above which the other terms do nothing
ADVISED = 0.1  # the share that a vanishing term, or all but a swamping one, would have if the advice were followed


@dataclass(frozen=True)
class Weighed:
    """A term at one step: its raw value, its weight, its share of the loss."""

    step: int
    raw: float
    weight: float
    share: float


class Balance:
    """The last steps of each term. `paths`: term -> its weight's path in the loss; `changes`: those that change;
    `section`: of the spec, `Stage.section`."""

    def __init__(
        self, paths: Mapping[str, str], changes: Mapping[str, Change], warmup_steps: int, section: str = ""
    ) -> None:
        self._loss = f"{section}loss"
        self._paths, self._changes, self._warmup_steps = paths, changes, warmup_steps
        self._last: dict[str, deque[Weighed]] = {name: deque(maxlen=WINDOW_STEPS) for name in paths}
        self._told: set[str] = set()

    def add(self, step: int, raw: Mapping[str, float], weights: Mapping[str, float]) -> None:
        """Add one step. The window of a term is cleared while its weight is 0, and that of all while only one weight is
        not 0. Steps at which a scheduled weight is still small (below half of its larger end) are left out."""
        if step <= self._warmup_steps or any(self._on_its_way(name, step, weights[name]) for name in self._paths):
            return
        sizes = {name: abs(weights[name] * raw[name]) for name in self._paths if weights[name]}
        total = sum(sizes.values())
        for name, last in self._last.items():
            if name not in sizes or len(sizes) < 2:
                last.clear()
            else:
                share = sizes[name] / total if total else 0.0
                last.append(Weighed(step, raw[name], weights[name], share))

    def state(self) -> dict[str, Any]:
        """JSON: what a checkpoint keeps, so that an interruption changes no warning."""
        last = {name: [astuple(weighed) for weighed in kept] for name, kept in self._last.items()}
        return {"last": last, "told": sorted(self._told)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        for name, kept in state["last"].items():
            self._last[name].clear()
            self._last[name].extend(Weighed(*weighed) for weighed in kept)
        self._told = set(state["told"])

    def _on_its_way(self, name: str, step: int, weight: float) -> bool:
        change = self._changes.get(self._paths[name])
        if change is None or not change.begin < step < change.end:
            return False
        return 0 < weight < max(change.initial, change.final) / 2

    def notices(self) -> list[Notice]:
        """New warnings, asked for after each step. If one term swamps the others, only it is named."""
        full = {name: last for name, last in self._last.items() if len(last) == WINDOW_STEPS}
        shares = {name: sum(weighed.share for weighed in last) / len(last) for name, last in full.items()}
        zero = [name for name, last in full.items() if not any(weighed.raw for weighed in last)]
        found = [self._zero(name) for name in zero if name not in self._told]
        swamping = next((name for name, share in shares.items() if share > SWAMPING), None)
        if swamping is not None and swamping not in self._told and {swamping, *zero} < shares.keys():
            found.append(self._swamping(swamping, shares[swamping]))
            self._told.update(shares)
        found += [self._vanishing(name, share, shares) for name, share in self._vanished(shares)]
        return found

    def _vanished(self, shares: Mapping[str, float]) -> Iterator[tuple[str, float]]:
        for name, share in shares.items():
            if share < VANISHING and name not in self._told:
                yield name, share

    def _zero(self, name: str) -> Notice:
        self._told.add(name)
        return Notice(
            "R353",
            f"the term {name} was exactly 0 in {self._steps(name)}: nothing is compared, or what cannot differ",
            "see `distilc verify` and `distilc explain` (φ, what is copied, what is frozen); if it is intended, "
            f"remove {self._loss}.{self._paths[name]}",
            f"{self._loss}.{self._paths[name]}",
        )

    def _vanishing(self, name: str, share: float, shares: Mapping[str, float]) -> Notice:
        self._told.add(name)
        largest = max(shares, key=lambda other: shares[other])
        return Notice(
            "R351",
            f"the term {name} is {percent(share)} of the loss in {self._steps(name)}: it hardly counts beside "
            f"{largest} ({percent(shares[largest])})",
            self._advice("raise", name, share, ADVISED, "it is then a tenth of the loss"),
            f"{self._loss}.{self._paths[name]}",
        )

    def _swamping(self, name: str, share: float) -> Notice:
        self._told.add(name)
        return Notice(
            "R352",
            f"the term {name} is {percent(share)} of the loss in {self._steps(name)}: the other terms hardly count",
            self._advice("lower", name, share, 1 - ADVISED, "the others are then a tenth of the loss"),
            f"{self._loss}.{self._paths[name]}",
        )

    def _advice(self, verb: str, name: str, share: float, wanted: float, result: str) -> str:
        """With w' / w = wanted (1 - share) / (share (1 - wanted)) the share becomes the wanted one, all else equal."""
        share = min(max(share, 1e-12), 1 - 1e-12)
        ratio = wanted * (1 - share) / (share * (1 - wanted))
        times, path = f"{_rounded(ratio if ratio > 1 else 1 / ratio)} times", self._paths[name]
        if path in self._changes:
            return f"{verb} `from` and `to` of {self._loss}.{path} about {times}: {result}"
        weight = self._last[name][-1].weight
        return f"{verb} {self._loss}.{path} about {times}, from {weight:g} to {_rounded(weight * ratio)}: {result}"

    def _steps(self, name: str) -> str:
        last = self._last[name]
        return f"the steps {last[0].step} to {last[-1].step}"


def percent(share: float) -> str:
    """A share in percent: `0.021 %`, `99.98 %`."""
    return f"{100 * share:.2f} %" if share > 0.01 else f"{_rounded(100 * share)} %"


def _rounded(value: float) -> str:
    """Two significant digits, without an exponent where that is short."""
    return f"{float(f'{value:.1e}'):g}"
