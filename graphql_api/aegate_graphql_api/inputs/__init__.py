"""Inputs that are made of the CRDs."""
