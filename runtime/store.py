"""Artifacts by key: the folder that every run of a workspace shares.

    <root>/<key>/            a published artifact, complete, with manifest.json; never changed again
    <root>/.work/<key>/      the folder in which a stage is at work; kept across interruptions
    <root>/.locks/<key>.json who is at work on it

An artifact is published by one rename, so a half-written one is never seen. Of two processes that want
the same key one computes; the other waits, or takes over when the owner is dead.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .failure import Failure
from .heartbeat import BEAT_SECONDS, Life, Watch, claim, heartbeat, read_life
from .plan import Site, Stage
from .terminal import tell

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
STALE_SECONDS = 60.0  # an owner on another machine that was silent this long is taken for dead


class Store:
    """`root` is written; `shared` stores are looked into as well, never written."""

    def __init__(self, root: Path, shared: Sequence[Path] = ()) -> None:
        self.root = root
        self.shared = tuple(shared)
        self._watches: dict[str, Watch] = {}  # key -> what was seen of its owner

    def find(self, key: str) -> Path | None:
        """The folder of the published artifact, or None."""
        for root in (self.root, *self.shared):
            folder = root / key
            if (folder / MANIFEST).is_file():
                return folder
        return None

    def has(self, key: str) -> bool:
        return self.find(key) is not None

    def folder(self, key: str) -> Path:
        """The folder of a published artifact whose files are all there at their sizes.

        Raises `Failure` R401: it is not there, or was damaged."""
        folder = self.find(key)
        if folder is None:
            raise Failure(
                "R401", f"the artifact {key[:12]} is not in the store {self.root}", "run the plan again"
            )
        for name, entry in self.manifest(key)["files"].items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != entry["bytes"]:
                raise Failure(
                    "R401",
                    f"the artifact {folder} is damaged: {name} is missing or cut short",
                    f"remove the folder and run again: rm -r {folder}",
                )
        return folder

    def manifest(self, key: str) -> dict[str, Any]:
        folder = self.find(key)
        if folder is None:
            raise Failure(
                "R401", f"the artifact {key[:12]} is not in the store {self.root}", "run the plan again"
            )
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        return manifest

    def work(self, key: str) -> Path:
        """The work folder of a key, made when it is not there."""
        folder = self.root / ".work" / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def discard(self, key: str) -> None:
        """Forget an artifact of this root and what is left of work on it.

        Raises `Failure` R403: another process is at work on it."""
        self._require_idle(key)
        shutil.rmtree(self.root / key, ignore_errors=True)
        shutil.rmtree(self.root / ".work" / key, ignore_errors=True)

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
        """Hash the work folder's files, write the manifest and rename the folder into its place.

        `settings` and `needs` (role -> key) record what the artifact was made from, for people who ask why
        another one had to be made. Manifests of earlier versions are without them.
        """
        folder = self.work(key)
        files = {
            path.relative_to(folder).as_posix(): {"sha256": _sha256(path), "bytes": path.stat().st_size}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        manifest = {
            "format": MANIFEST_FORMAT,
            "kind": kind,
            "key": key,
            "stage": stage,
            "created": time.time(),
            "seconds": seconds,
            "summary": dict(summary),
            **({} if settings is None or needs is None else {"settings": settings, "needs": dict(needs)}),
            "files": files,
        }
        with (folder / MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1, sort_keys=True, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        target = self.root / key
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(folder)  # somebody else published the same key: equal content by construction
        return target

    def _require_idle(self, key: str) -> None:
        if self.owner(key) is not None or _changes(self._lock(key)):
            raise Failure(
                "R403", f"another process is at work on {key[:12]}", "wait for it, or stop it first"
            )

    # --- who is at work --------------------------------------------------------------------------

    def owner(self, key: str) -> Life | None:
        """The process at work on a key, as far as one look tells; None: nobody. On another machine that is one whose
        clock, at its last heartbeat, was near what this machine's shows."""
        life = read_life(self._lock(key))
        if life is None:
            return None
        alive = life.running if life.here else abs(time.time() - life.heartbeat) < STALE_SECONDS
        return life if alive else None

    @contextmanager
    def lease(self, key: str) -> Iterator[bool]:
        """Try to become the owner of a key; yields whether it worked. Kept alive by a heartbeat.

        An owner on another machine is given up after STALE_SECONDS in which calls of this saw no change of its
        record, whatever time the record tells: so ask again."""
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
            with suppress(OSError):  # a disk that has none: `claim` still excludes
                fcntl.flock(guard, fcntl.LOCK_EX)
            if read_life(path) is not None and watch.lives():
                return False
            path.unlink(missing_ok=True)  # of one that died, or damaged
            return claim(path)

    def _lock(self, key: str) -> Path:
        return self.root / ".locks" / f"{key}.json"


def open_store(site: Site, kind: str = "") -> Store:
    """The store of a site, for writing artifacts of a kind: signals go into the site's scratch folder, where it has
    one, all else into the workspace. Whatever is in either is found."""
    workspace, *scratch = own = _own_roots(site)
    root = scratch[0] if scratch and kind == "signals" else workspace
    return Store(root, [*(other for other in own if other != root), *map(Path, site.shared_stores)])


def discard(site: Site, stages: Sequence[Stage]) -> None:
    """Forget the artifacts of these stages wherever the site keeps them, so that they are computed again: all of them,
    or none.

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


def _own_roots(site: Site) -> list[Path]:
    """The stores that a site writes: the workspace's, then that of its scratch folder."""
    return [Path(site.workspace) / "store", *([] if site.scratch is None else [Path(site.scratch)])]


def _changes(path: Path) -> bool:
    """Does somebody on another machine renew this record, with a clock that is far from ours?"""
    before = read_life(path)
    if before is None or before.here:
        return False
    time.sleep(3 * BEAT_SECONDS)
    return read_life(path) not in (None, before)


def _end_at_once() -> None:
    """Two never write into one folder: an owner that was taken for dead, and another's place, ends."""
    tell("another process took over: this one had not been heard of for too long", err=True)
    os._exit(75)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
