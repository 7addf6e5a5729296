"""What an ApplicationEntity's listener consists of on a cluster: pure functions from values to manifests."""

from aegate_operator.manifests.child import Child
from aegate_operator.manifests.children import children, remarks
from aegate_operator.manifests.config_map import revision

__all__ = ["Child", "children", "remarks", "revision"]
