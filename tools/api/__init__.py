"""The contract of the GraphQL API: what changed in it since the last release, and whether that may be."""
