"""Exit codes that mean something to whoever started the indexer. Imports nothing: it is needed before all else."""

NOT_EMPTY = 75
"""Told to stop before the spool was empty (EX_TEMPFAIL): a Job that ended so has not succeeded, and is run again."""
