"""What a run leaves for people: figures, and pages that open offline."""

from engine.report.evaluation import print_evaluation, write_evaluation
from engine.report.html import write_report
from engine.report.results import jsonable
from engine.report.summary import all_refused, print_summary, summary

__all__ = [
    "all_refused",
    "jsonable",
    "print_evaluation",
    "print_summary",
    "summary",
    "write_evaluation",
    "write_report",
]
