"""Decisions: rows and what the target has become a plan. Pure: no input, output or clock."""
