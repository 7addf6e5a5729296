"""The `aegate` command: the only package that may import several edges."""
