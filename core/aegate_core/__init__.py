"""Shared vocabulary, decisions, stores and services of aegate. Floors, from the ground up: see docs/architecture.md."""

__version__ = "0.1.0"
