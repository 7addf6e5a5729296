"""The index: what was received, as rows."""
