"""`mouselift check`: the geometry of a recording or a dataset, proven in figures and pictures."""

from mouselift.check.dataset import check_dataset
from mouselift.check.recording import check_recording
from mouselift.check.report import CheckReport, write_report

__all__ = ["CheckReport", "check_dataset", "check_recording", "write_report"]
