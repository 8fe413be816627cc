"""The way from the compile half to the run half."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..diagnostics.credentials import without_credentials
from ..resolve.site import Site, SiteOptions, load_site


def give_credentials(site: Site | None) -> None:
    """Hand the tracking server's address over as it is in the site; None: the site of this machine. A plan has it
    without user and password, and the runtime takes them from MLFLOW_TRACKING_URI where that is the same address."""
    site = site or load_site(SiteOptions()).site
    address = None if site is None else site.tracking_uri
    if address is not None and address != without_credentials(address):
        os.environ["MLFLOW_TRACKING_URI"] = address


def hand_over(arguments: Sequence[str]) -> NoReturn:
    """Become the runtime. The two halves share no code; they meet in plan.json."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "distilc.runtime", *arguments])
