"""From measurements to coefficients with their uncertainty."""
