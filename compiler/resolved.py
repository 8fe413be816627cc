"""`explain --resolved`: the spec as the compiler sees it, every default written out. It is a spec itself."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any


def resolved_yaml(tree: Mapping[str, Any]) -> str:
    """A resolved tree as YAML, in the order of the schema's keys."""
    from ruamel.yaml import YAML

    from .structure import load_schema

    order = list(load_schema("experiment").root["properties"])
    ordered = {key: tree[key] for key in sorted(tree, key=order.index)}
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 100
    stream = io.StringIO()
    yaml.dump(ordered, stream)
    return stream.getvalue()
