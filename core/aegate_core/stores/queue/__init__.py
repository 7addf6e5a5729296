"""The queue: what has to go out, as rows."""
