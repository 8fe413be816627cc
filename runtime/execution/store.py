"""Artifacts by key: the folder that every run of a workspace shares.

    <root>/<key>/             a published artifact, complete, with manifest.json; never changed again
    <root>/.work/<key>/          the folder in which a stage is at work; kept across interruptions
    <root>/.work/<key>.scratch/  what it resumes from; gone when the artifact is published, not before
    <root>/.again/<key>          to be recomputed: the artifact counts as missing, and stays until it is replaced
    <root>/.hashes/<key>.json    cached hashes of its large files (integrity.py)
    <root>/.locks/<key>.json     the process that computes it

An artifact is published by one rename, so a half-written one is never seen. Of two processes that want
the same key one computes; the other waits, or takes over when the owner is dead.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..failure import Failure
from ..files.integrity import Hashes, added_file, changed_file, require_model, sync, sync_tree
from ..messages.terminal import tell
from ..plan.plan import Site, Stage
from .code_identity import code_identity
from .heartbeat import BEAT_SECONDS, ProcessRecord, Watch, claim, heartbeat, read_process

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
REFERENCE = "reference.json"  # of a model that lies outside the store
WORK, AGAIN, HASHES = ".work", ".again", ".hashes"
GONE = ".gone-"
STALE_SECONDS = 60.0  # an owner on another machine whose record did not change for so long counts as dead


class Store:
    """`root` is written; `shared` stores are only read. `hashes`: the folder in which hashes of all of them are cached
    (None: that of `root`)."""

    def __init__(self, root: Path, shared: Sequence[Path] = (), hashes: Path | None = None) -> None:
        self.root = root
        self.shared = tuple(shared)
        self._hashes = hashes if hashes is not None else root / HASHES
        self._watches: dict[str, Watch] = {}  # key -> what was seen of its owner

    def find(self, key: str) -> Path | None:
        """The folder of the published artifact, or None. One that is to be computed again is not found."""
        for root in (self.root, *self.shared):
            folder = root / key
            if (folder / MANIFEST).is_file() and not (root / AGAIN / key).exists():
                return folder
        return None

    def has(self, key: str) -> bool:
        return self.find(key) is not None

    def folder(
        self, key: str, *, large_files: bool = True, wait: Callable[[str], None] | None = None, stage: str | None = None
    ) -> Path:
        """The folder of a published artifact that is as it was written, and so is the model that it refers to.

        `large_files` False: of those only the sizes are compared. `wait` is called with the
        name of a file that takes long.
        `stage`: the id of its stage in the plan that asks, for the diagnosis.
        Raises `Failure` R401: it is not there, was damaged, or a file was added to it; R224: the model that it refers
        to was changed."""
        folder, manifest = self._open(key, stage)
        hashes = self.hashes(key, wait)
        files = manifest["files"]
        changed = changed_file(folder, files, hashes, large_files=large_files)
        if changed is not None:
            raise _damaged(folder, " ".join(changed), stage)
        if (added := added_file(folder, (*files, MANIFEST))) is not None:
            raise Failure(
                "R401",
                f"the artifact {folder} was changed: {added} was added after it was published",
                f"libraries may read it as a part of the artifact; remove it (rm {folder / added})",
            )
        if large_files and REFERENCE in files:
            require_model(folder / REFERENCE, hashes)
        return folder

    def manifest(self, key: str) -> dict[str, Any]:
        """Raises `Failure` R401: there is none, or it was damaged."""
        return self._open(key)[1]

    def hashes(self, key: str, wait: Callable[[str], None] | None = None) -> Hashes:
        """Hashes of the files of an artifact, cached in the workspace."""
        return Hashes(self._hashes / f"{key}.json", wait)

    def _open(self, key: str, stage: str | None = None) -> tuple[Path, dict[str, Any]]:
        folder = self.find(key)
        if folder is None:
            raise Failure(
                "R401", f"the artifact {key[:12]} is not in the store {self.root}", "run the plan again"
            )
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        except OSError as error:
            raise _damaged(folder, f"{MANIFEST} cannot be read ({error.strerror})", stage) from error
        except ValueError as error:
            raise _damaged(folder, f"{MANIFEST} is not JSON", stage) from error
        if not _is_manifest(manifest, key):
            raise _damaged(folder, f"{MANIFEST} is not the manifest of this artifact", stage)
        return folder, manifest

    def work(self, key: str) -> Path:
        """The work folder of a key, made when it is not there."""
        folder = self.root / WORK / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def scratch(self, key: str) -> Path:
        """The folder from which work on a key resumes. `make_scratch` creates it."""
        return self.root / WORK / f"{key}.scratch"

    def make_scratch(self, key: str) -> None:
        self.scratch(key).mkdir(parents=True, exist_ok=True)

    def discard(self, key: str) -> None:
        """Have an artifact of this root recomputed from scratch. It stays where it is until it is replaced.

        Raises `Failure` R403: another process is at work on it."""
        self._require_idle(key)
        if (self.root / key).exists():
            (self.root / AGAIN).mkdir(exist_ok=True)
            (self.root / AGAIN / key).touch()
            sync(self.root / AGAIN)
        self._remove_work(key)

    def tidy(self, key: str) -> None:
        """Remove what is left of the work on a published artifact: of a publication that was killed at its end."""
        if any((self.root / WORK).glob(f"{key}*")) and self.find(key) == self.root / key and self.owner(key) is None:
            self._remove_work(key)

    def _remove_work(self, key: str) -> None:
        for path in (self.root / WORK).glob(f"{key}*"):
            # At once: of half a scratch folder a training would go on from the wrong place.
            gone = path if GONE in path.name else path.with_name(f"{path.name}{GONE}{os.getpid()}")
            with suppress(OSError):
                path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def publish(
        self,
        key: str,
        *,
        kind: str,
        stage: str,
        seconds: float,
        summary: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        needs: Mapping[str, str] | None = None,
    ) -> Path:
        """Hash the work folder's files, write the manifest and rename the folder into its place; then, and not before,
        what the work would be resumed from is removed. A publication that was killed anywhere can be repeated.

        `settings` and `needs` (role -> key) record what the artifact was made from, for people who ask why
        another one had to be made.
        """
        folder, target, again = self.work(key), self.root / key, self.root / AGAIN / key
        hashes = self.hashes(key)
        files = {
            name: {"sha256": hashes.sha256(name, path), "bytes": path.stat().st_size}
            for path in sorted(folder.rglob("*"))
            if path.is_file() and (name := path.relative_to(folder).as_posix()) != MANIFEST
        }
        manifest = {
            "format": MANIFEST_FORMAT,
            "kind": kind,
            "key": key,
            "stage": stage,
            "created": time.time(),
            "seconds": seconds,
            "summary": dict(summary),
            "distilc": asdict(code_identity()),
            **({} if settings is None or needs is None else {"settings": settings, "needs": dict(needs)}),
            "files": files,
        }
        with (folder / MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1, sort_keys=True, allow_nan=False)
            file.write("\n")
        sync_tree(folder)
        if target.exists() and (again.exists() or not (target / MANIFEST).is_file()):
            target.rename(target.parent / WORK / f"{key}{GONE}{os.getpid()}")  # what it replaces, or half of one
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # Another process published the same key, with equal content by construction. This copy is removed below.
        sync(self.root)
        again.unlink(missing_ok=True)
        self._remove_work(key)
        return target

    def _require_idle(self, key: str) -> None:
        if self.owner(key) is not None or _changes(self._lock(key)):
            raise Failure(
                "R403", f"another process is at work on {key[:12]}", "wait until it has ended, or stop it first"
            )

    # --- the process at work ---------------------------------------------------------------------

    def owner(self, key: str) -> ProcessRecord | None:
        """The process at work on a key, judged by one read of its record; None: there is none. On another machine it
        counts as alive if its last heartbeat, by its own clock, is less than STALE_SECONDS from this machine's time."""
        process = read_process(self._lock(key))
        if process is None:
            return None
        alive = process.running if process.here else abs(time.time() - process.heartbeat) < STALE_SECONDS
        return process if alive else None

    @contextmanager
    def lease(self, key: str) -> Iterator[bool]:
        """Try to become the owner of a key; yields whether it worked. Kept alive by a heartbeat.

        A dead owner on another machine is replaced after STALE_SECONDS in which repeated calls saw no change of its
        record, whatever time the record holds."""
        path = self._lock(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self._claim(key, path):
            yield False
            return
        with heartbeat(path, lost=_end_at_once):
            yield True

    def _claim(self, key: str, path: Path) -> bool:
        watch = self._watches.setdefault(key, Watch(path, STALE_SECONDS))
        with path.with_suffix(".guard").open("w") as guard:
            with suppress(OSError):  # a file system without locks: `claim` still excludes
                fcntl.flock(guard, fcntl.LOCK_EX)
            if read_process(path) is not None and watch.alive():
                return False
            path.unlink(missing_ok=True)  # of a dead process, or damaged
            return claim(path)

    def _lock(self, key: str) -> Path:
        return self.root / ".locks" / f"{key}.json"


def open_store(site: Site, kind: str = "") -> Store:
    """The store of a site, for writing artifacts of a kind: signals go into the site's scratch folder, where it has
    one, all else into the workspace. Whatever is in either is found."""
    workspace, *scratch = own = _own_roots(site)
    root = scratch[0] if scratch and kind == "signals" else workspace
    others = [*(other for other in own if other != root), *map(Path, site.shared_stores)]
    return Store(root, others, workspace / HASHES)


def require_undamaged(folder: Path) -> None:
    """A model folder that is an artifact, or links to one as a run's `student/` does: is it what was written?

    Raises `Failure` R401."""
    artifact = (folder / "config.json").resolve().parent
    if re.fullmatch(r"[0-9a-f]{64}", artifact.name) and (artifact / MANIFEST).is_file():
        Store(artifact.parent).folder(artifact.name)


def discard(site: Site, stages: Sequence[Stage]) -> None:
    """Have the artifacts of these stages recomputed, wherever the site keeps them: all of them, or none.

    Raises `Failure` R403: another process is at work on one; R407: one lies in a shared store, which is only read,
    and would be found there again.
    """
    own = [Store(root) for root in _own_roots(site)]
    written = {store.root.resolve() for store in own}
    shared = [path for path in map(Path, site.shared_stores) if path.resolve() not in written]
    for stage in stages:
        for store in own:
            store._require_idle(stage.key)
        folder = Store(shared[0], shared[1:]).find(stage.key) if shared else None
        if folder is not None:
            raise Failure(
                "R407",
                f"the artifact of {stage.id} lies in a shared store, which is only read: {folder}",
                f"remove it there (rm -r {folder}), or take {folder.parent} out of `shared_stores` of the site",
            )
    for stage in stages:
        for store in own:
            store.discard(stage.key)


def _is_manifest(manifest: Any, key: str) -> bool:
    """Are the fields that are read there, with the right types?"""
    if not isinstance(manifest, dict) or manifest.get("key") != key:
        return False
    kinds = {"kind": str, "stage": str, "created": int | float, "seconds": int | float, "summary": dict, "files": dict}
    return all(isinstance(manifest.get(name), kind) for name, kind in kinds.items()) and all(
        isinstance(entry, dict) and isinstance(entry.get("sha256"), str) and isinstance(entry.get("bytes"), int)
        for entry in manifest["files"].values()
    )


def _damaged(folder: Path, how: str, stage: str | None) -> Failure:
    again = "have its stage computed again with --redo" if stage is None else f"have it computed again: --redo {stage}"
    return Failure(
        "R401",
        f"the artifact {folder} is damaged: {how}",
        f"remove it and run the same command again (rm -r {folder}), or {again}",
    )


def _own_roots(site: Site) -> list[Path]:
    """The stores that a site writes: the workspace's, then that of its scratch folder."""
    return [Path(site.workspace) / "store", *([] if site.scratch is None else [Path(site.scratch)])]


def _changes(path: Path) -> bool:
    """Does a process on another machine renew this record, with a clock that is far from this machine's?"""
    before = read_process(path)
    if before is None or before.here:
        return False
    time.sleep(3 * BEAT_SECONDS)
    return read_process(path) not in (None, before)


def _end_at_once() -> None:
    """Two processes never write into one folder: an owner that was replaced exits."""
    tell("another process took over this stage: the heartbeat of this one was silent for too long", err=True)
    os._exit(75)
