"""What an ApplicationEntity's listener consists of on a cluster: pure functions from values to manifests."""

from aegate_operator.manifests.child import Child
from aegate_operator.manifests.children import children, remarks
from aegate_operator.manifests.config_map import revision
from aegate_operator.manifests.drain import drain_job, drain_policy, entity_of

__all__ = ["Child", "children", "drain_job", "drain_policy", "entity_of", "remarks", "revision"]
