"""Pools and tools declared in one file, served over MCP."""
