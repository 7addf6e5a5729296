"""The custom resources as frozen values, and the way from YAML to them."""
