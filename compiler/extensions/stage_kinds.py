"""The stage kinds that a spec may name under `stages`: each is run once after the training, reads the models or the
data that its fragment names, and gives a small result."""

from __future__ import annotations

from collections.abc import Mapping

from .built_in import Facts, built_in
from .installed import Installed, installed


def stage_kinds(packages: Installed | None = None) -> Mapping[str, Facts]:
    """Name -> what its schema fragment says, of ours that are not placed by other keys of a spec, and of those of
    packages that can be used. `packages` None: those that are installed."""
    packages = packages or installed()
    ours = {name: facts for name, facts in built_in("stages").items() if "needs" in facts}
    return {**ours, **{name: extension.facts for name, extension in packages.usable("stages").items()}}
