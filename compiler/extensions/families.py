"""The model families that can be used: ours, and those of installed packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from ..tasks.task import TASKS, HeadName
from .builtin_families import OURS, Family
from .installed import installed


class _Families(Mapping[str, Family]):
    """Ours, and those of installed packages that can be used."""

    def __getitem__(self, name: str) -> Family:
        return OURS[name] if name in OURS else _own(name)

    def __iter__(self) -> Iterator[str]:
        return iter((*OURS, *installed().usable("families")))

    def __len__(self) -> int:
        return len(list(iter(self)))


FAMILIES: Mapping[str, Family] = _Families()


@cache
def _own(name: str) -> Family:
    """The row of an installed package's family: its layout's, with the defaults and tasks that it names.
    Raises KeyError: nobody registers it, or it cannot be used."""
    facts = installed().usable("families")[name].facts
    ours, defaults = OURS[facts["layout"]], facts.get("defaults", {})
    fields = {size: (field, defaults.get(field, default)) for size, (field, default) in ours.fields.items()}
    heads = tuple(head for head in ours.heads if any(TASKS[task].head == head for task in facts["tasks"]))
    return ours._replace(fields=fields, heads=heads, convertible=False)


def layout_of(family: str) -> str:
    """The family of ours that a family is laid out as: itself, if it is ours."""
    return str(installed().facts("families", family).get("layout", family))


def families_for(head: HeadName) -> tuple[str, ...]:
    """The families whose models can carry a head."""
    return tuple(name for name, family in FAMILIES.items() if head in family.heads)


def tasks_of(family: str) -> tuple[str, ...]:
    """The tasks that a family's models can be distilled for."""
    return tuple(name for name, task in TASKS.items() if task.head in FAMILIES[family].heads)
