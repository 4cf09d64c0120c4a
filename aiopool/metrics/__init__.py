"""Exporters: they read the pools' statistics when somebody asks, and cost nothing otherwise."""
