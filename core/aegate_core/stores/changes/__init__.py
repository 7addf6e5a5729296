"""What happened, in order: rows that triggers write, positions in which readers see them."""
