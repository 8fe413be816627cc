"""Tracking: the run's own journal always, MLflow as well as it can be had."""

from .server import database_fault, ui_command
from .tracker import Tracker, TrackingResult

__all__ = ["Tracker", "TrackingResult", "database_fault", "ui_command"]
