"""Training: step time, power and energy beside published runs."""

from effsim.validate.training.families import FAMILIES, cases
from effsim.validate.training.report import chosen_cases, predictions, report, skipped, summary
from effsim.validate.training.roles import family_counts, role_errors, roles, with_roles

__all__ = ["FAMILIES", "cases", "chosen_cases", "family_counts", "predictions", "report", "role_errors", "roles", "skipped", "summary", "with_roles"]
