"""Change what is configured where it is configured: custom resources of a cluster, or files of a folder."""

from aegate_core.services.manifests.port import Manifests, Wish

__all__ = ["Manifests", "Wish"]
