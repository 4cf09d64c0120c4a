"""Whole lives of a pool, on a virtual clock, drawn from seeds: every kind of caller, operator and misfortune."""
