"""Reports on scored data as one HTML file, and what made a row unusual."""

from gandetect.reporting.explanations import unusual_columns
from gandetect.reporting.report import write_report

__all__ = ["unusual_columns", "write_report"]
