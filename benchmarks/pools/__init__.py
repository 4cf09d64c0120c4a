"""Pools over connections that do nothing: ours, those of others, and what people write by hand."""
