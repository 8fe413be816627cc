"""Where it runs: the site file(s), the command line's options, and what this machine has.

Nothing in here changes a result, and nothing in here is part of a key. Sources, the later wins: defaults
(schema/site.schema.json), `~/.config/distilc/site.yaml`, the file in DISTILC_SITE, `--site FILE`, options.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from os.path import expanduser, isdir, isfile
from pathlib import Path
from typing import Any, Literal

from ..diagnostics.diagnostic import Diagnostic, Places, Reporter, quoted, shown_path
from ..diagnostics.record import record
from ..diagnostics.regular_file import real_path, why_not
from ..spec.merging import clean, merge, spell_out
from ..spec.parse import Node, flatten, read_source
from ..spec.structure import Schema, load_schema, with_defaults
from ..spec.validate import validate
from .hostfile import check_hostfile


@record
class Site:
    """Folders are absolute. `memory_gb` of one device, None: unknown. `micro_batch_tokens` None: derived.
    `scratch`: where states of the teacher are kept, None: in the store."""

    workspace: Path
    shared_stores: tuple[Path, ...]
    offline: bool
    models: tuple[Path, ...]
    paths: Mapping[str, Path]
    device: Literal["cpu", "cuda"]
    device_name: str
    nodes: int
    per_node: int
    memory_gb: float | None
    hostfile: Path | None
    zero: Literal["auto"] | int
    shard_teacher: Literal["auto"] | bool
    checkpointing: Literal["auto"] | bool
    offload: Literal["none", "optimizer", "parameters"]
    micro_batch_tokens: int | None
    save_minutes: float
    tracking_uri: str | None
    scratch: Path | None
    scratch_limit_gb: float
    scratch_read_gb_per_second: float
    engine: Literal["auto", "ctranslate2", "transformers"] = "auto"


@record
class SiteOptions:
    """What the command line says about the site. Folders are relative to the current one."""

    site: Path | None = None
    workspace: Path | None = None
    models: tuple[Path, ...] = ()
    offline: bool = False
    devices: int | None = None
    paths: Mapping[str, Path] | None = None


@record
class LoadedSite:
    """`site` is None when there were errors. `texts`: file -> text, for printing the diagnostics."""

    site: Site | None
    diagnostics: list[Diagnostic]
    texts: Mapping[str, str]


def load_site(options: SiteOptions) -> LoadedSite:
    """The site from all of its sources."""
    schema = load_schema("site")
    texts: dict[str, str] = {}
    reader = Reporter(Places())
    tree: Node | None = None
    for file, named_by in _site_files(options):
        source = read_source(file, str(file), reader, texts, start=SITE_START, named_by=named_by, may_be_empty=True)
        if source is None or _is_spec(source.tree, reader):
            continue
        below = spell_out(source.tree, schema, schema.root)
        below = _absolute(below, schema, schema.root, real_path(file).parent)
        tree = below if tree is None else merge(tree, below, schema, schema.root)
    places = Places()
    plain = {} if tree is None else flatten(clean(tree, schema, schema.root), places)
    reporter = Reporter(places)
    reporter.take(reader.diagnostics)
    validate(plain, schema, reporter)
    site = None
    if not reporter.failed:
        site = _bind(with_defaults(schema, schema.root, plain), options, reporter, texts)
    return LoadedSite(None if reporter.failed else site, reporter.diagnostics, texts)


def _site_files(options: SiteOptions) -> list[tuple[Path, str]]:
    """The site files, the weakest first, each with the environment variable that names it ("": none does). Only
    the one in the home folder may be missing."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or expanduser("~/.config"))
    own = config / "distilc" / "site.yaml"
    files = [(own, "")] if isfile(own) else []
    if named := os.environ.get("DISTILC_SITE"):
        files.append((Path(expanduser(named)), "DISTILC_SITE"))
    if options.site is not None:
        files.append((options.site, ""))
    return files


def _is_spec(tree: Node, reporter: Reporter) -> bool:
    """Was a spec given for a site file? Then that is all there is to say about it."""
    assert isinstance(tree.value, dict)
    found = [(key, node) for key, node in tree.value.items() if key in OF_SPECS]
    if len(found) < 2:
        return False
    key, node = found[0]
    reporter.error_at(
        "E201",
        node.key or node.place,
        f"unknown key {quoted(key)}: this is a spec, not a site file",
        "a site file says where experiments run, for example `devices: {per_node: 8}`; a spec is given without --site",
        (key,),
    )
    return True


SITE_START = "write keys and values, for example `devices: {per_node: 8}`; `distilc schema --site` lists the keys"
OF_SPECS = ("version", "extends", "name", "task", "teacher", "student", "data", "loss")  # and of no site


def _absolute(node: Node, schema: Schema, fragment: Any, folder: Path) -> Node:
    """The tree of a site file with its locations absolute."""
    value = node.value
    if isinstance(value, str):
        if "x-location" in schema.resolve(fragment) and value:
            return Node(str(Path(folder, Path(expanduser(value)))), node.place, node.key, node.text)
        return node
    chosen = schema.resolve(fragment)

    def visit(child: Node, step: str | int) -> Node:
        below = schema.child(chosen, step)
        return child if below is None else _absolute(child, schema, below, folder)

    if isinstance(value, dict):
        return Node({key: visit(child, key) for key, child in value.items()}, node.place, node.key)
    if isinstance(value, list):
        return Node([visit(child, i) for i, child in enumerate(value)], node.place, node.key)
    return node


def _bind(tree: Mapping[str, Any], options: SiteOptions, reporter: Reporter, texts: dict[str, str]) -> Site:
    """The site of a tree that fits the schema, with the options and the machine's own facts put in."""
    from .machine import Machine, detect

    devices = tree["devices"]
    found = detect()
    if devices["kind"] == "cpu" and found.device == "cuda":
        found = Machine("cpu", "CPU", 1, None)
    elif devices["kind"] == "cuda" and found.device == "cpu":
        found = Machine("cuda", "GPU", 1, None)  # compiled here to run elsewhere
    nodes, per_node = int(devices["nodes"]), int(options.devices or devices.get("per_node") or found.count)
    hostfile = devices.get("hostfile")
    if devices["nodes"] > 1 and hostfile is None:
        reporter.error(
            "E307",
            ("devices", "nodes"),
            f"{devices['nodes']} nodes, and no hostfile that names them",
            "add `hostfile: FILE` with one line `NAME slots=DEVICES` for each node",
        )
    if hostfile is not None and not isfile(hostfile):
        message = f"the hostfile {shown_path(Path(hostfile))} {why_not(Path(hostfile))}"
        reporter.error("E306", ("devices", "hostfile"), message, "name a text file with one line per node")
    elif hostfile is not None:
        check_hostfile(Path(hostfile), nodes, per_node, reporter, texts)
    for i, folder in enumerate(tree["models"]):
        if not isdir(folder):
            what = "is a file, not a folder of models" if isfile(folder) else why_not(Path(folder))
            reporter.error("E306", ("models", i), f"the folder {shown_path(Path(folder))} {what}")
    here = Path.cwd()
    workspace = options.workspace or tree.get("workspace") or ".distilc"
    paths = {name: Path(folder) for name, folder in tree["paths"].items()}
    paths |= {name: here / folder for name, folder in (options.paths or {}).items()}
    zero = tree["zero"]
    micro_batch_tokens = tree["micro_batch_tokens"]
    return Site(
        workspace=Path(os.path.normpath(here / workspace)),
        shared_stores=tuple(Path(store) for store in tree["shared_stores"]),
        offline=options.offline or tree["offline"],
        models=(*(here / folder for folder in options.models), *(Path(folder) for folder in tree["models"])),
        paths=paths,
        device=found.device,
        device_name=devices.get("name", found.name),
        nodes=nodes,
        per_node=per_node,
        memory_gb=devices.get("memory_gb", found.memory_gb),
        hostfile=None if hostfile is None else Path(hostfile),
        zero=zero if zero == "auto" else int(zero),
        shard_teacher=tree["shard_teacher"],
        checkpointing=tree["checkpointing"],
        offload=tree["offload"],
        micro_batch_tokens=None if micro_batch_tokens is None else int(micro_batch_tokens),
        save_minutes=float(tree["save_minutes"]),
        tracking_uri=tree["tracking"].get("uri"),
        scratch=Path(tree["scratch"]["path"]) if "path" in tree["scratch"] else None,
        scratch_limit_gb=float(tree["scratch"]["limit_gb"]),
        scratch_read_gb_per_second=float(tree["scratch"]["read_gb_per_second"]),
        engine=tree["engine"],
    )
