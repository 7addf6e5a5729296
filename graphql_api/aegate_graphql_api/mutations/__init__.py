"""Mutations: permission, change and audit row commit together; what cannot be is a typed problem, not an exception."""
