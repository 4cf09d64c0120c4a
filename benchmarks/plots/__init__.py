"""Comparisons as inline SVG: a row for each contestant, and a column for each thing to see at a glance."""
