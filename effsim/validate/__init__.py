"""Predictions beside public measurements."""
