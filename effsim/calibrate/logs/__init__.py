"""Serving logs of other tools, read into one kind of record: for calibration and validation."""

from effsim.calibrate.logs.reader import read_log, read_logs
from effsim.calibrate.logs.record import Measurement, Spread, table

__all__ = ["Measurement", "Spread", "read_log", "read_logs", "table"]
