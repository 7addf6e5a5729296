"""Use cases: decisions and stores put together, one transaction each."""
