"""Proof that the tests can fail: realistic faults, planted in the core one at a time, and each one must be found."""
