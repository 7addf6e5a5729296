"""The schema, one file a type; `root.py` puts it together."""
