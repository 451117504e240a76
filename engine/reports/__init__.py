"""What a run leaves for people: figures, and pages that open offline."""

from engine.reports.evaluation import print_evaluation, write_evaluation
from engine.reports.html import write_report
from engine.reports.results import jsonable
from engine.reports.summary import all_refused, print_summary, summary

__all__ = [
    "all_refused",
    "jsonable",
    "print_evaluation",
    "print_summary",
    "summary",
    "write_evaluation",
    "write_report",
]
