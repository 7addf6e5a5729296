"""The indexer: a process of its own beside the listeners, that takes arrivals from the spool into the index."""
