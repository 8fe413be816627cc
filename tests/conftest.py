"""Lets the tests run from a bare checkout too: without an install, `distilc` is this folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent

if importlib.util.find_spec("distilc") is None:
    package = ModuleType("distilc")
    package.__path__ = [str(ROOT)]
    sys.modules["distilc"] = package
