"""Programs that make what is generated; the shell scripts beside are what the Makefile calls."""
