"""Training: step time, power and energy beside published runs."""

from effsim.validate.training.families import FAMILIES, cases
from effsim.validate.training.report import chosen_cases, predictions, report, skipped, summary

__all__ = ["FAMILIES", "cases", "chosen_cases", "predictions", "report", "skipped", "summary"]
