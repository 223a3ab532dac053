"""Reports on scored data as one HTML file, and the columns that explain the score of a row."""

from gandetect.reporting.explanations import unusual_columns
from gandetect.reporting.report import write_report

__all__ = ["unusual_columns", "write_report"]
