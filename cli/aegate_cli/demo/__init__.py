"""A whole small hospital on one machine, for a few seconds: what `make demo` shows."""
