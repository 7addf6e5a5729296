"""The root of all changes. Each runs in one transaction with its audit row."""

from __future__ import annotations

import strawberry

from aegate_graphql_api.mutations import (
    destinations,
    entities,
    instances,
    locations,
    many,
    operations,
    partitions,
    quarantine,
    queue_items,
    routes,
    sending,
    troubles,
    verification,
    verification_of_many,
    worklist,
)
from aegate_graphql_api.permissions import EITHER, ENTITIES, QUEUE


@strawberry.type(description="What can be changed. Every change leaves an audit row.")
class Mutation:
    """Root of all changes; every field declares who may do it."""

    hold_queue_items: queue_items.QueueItemsResult = strawberry.field(
        resolver=queue_items.hold_queue_items,
        description="Hold items; what is being sent stops between two instances, within a second.",
        directives=[QUEUE],
    )
    resume_queue_items: queue_items.QueueItemsResult = strawberry.field(
        resolver=queue_items.resume_queue_items, description="Let held items go on.", directives=[QUEUE]
    )
    retry_queue_items: queue_items.QueueItemsResult = strawberry.field(
        resolver=queue_items.retry_queue_items,
        description="Send failed and cancelled items again, without what was acknowledged; retries go at once.",
        directives=[QUEUE],
    )
    cancel_queue_items: queue_items.QueueItemsResult = strawberry.field(
        resolver=queue_items.cancel_queue_items,
        description="Cancel items; what is being sent stops as with hold, what was acknowledged stays delivered.",
        directives=[QUEUE],
    )
    set_queue_item_priority: queue_items.QueueItemsResult = strawberry.field(
        resolver=queue_items.set_queue_item_priority,
        description="Change the priority of unfinished items, 0 to 100.",
        directives=[QUEUE],
    )
    bump_queue_items: queue_items.QueueItemsResult = strawberry.field(
        resolver=queue_items.bump_queue_items,
        description="Put unfinished items before everything else that waits for their destination, above any "
        "priority and waiting time; what is bumped later goes before what was bumped earlier.",
        directives=[QUEUE],
    )
    retry_queue_item_instances: instances.RetryInstancesResult = strawberry.field(
        resolver=instances.retry_instances,
        description="Send single images of an item again that were given up or cancelled; what is held stays held.",
        directives=[QUEUE],
    )
    hold_destination: destinations.DestinationResult = strawberry.field(
        resolver=destinations.hold_destination,
        description="Hold all that goes to a destination.",
        directives=[QUEUE],
    )
    resume_destination: destinations.DestinationResult = strawberry.field(
        resolver=destinations.resume_destination,
        description="Let a held destination go on.",
        directives=[QUEUE],
    )
    retry_destination: destinations.DestinationResult = strawberry.field(
        resolver=destinations.retry_destination,
        description="Probe a destination in trouble at once: once it answers, what waits for it goes by itself.",
        directives=[QUEUE],
    )
    send_studies: sending.SendResult = strawberry.field(
        resolver=sending.send_studies,
        description="Send studies to destinations by hand.",
        directives=[QUEUE],
    )
    send_series: sending.SendResult = strawberry.field(
        resolver=sending.send_series,
        description="Send series to destinations by hand.",
        directives=[QUEUE],
    )
    send_instances: sending.SendResult = strawberry.field(
        resolver=sending.send_instances,
        description="Send single images to destinations by hand.",
        directives=[QUEUE],
    )
    reroute: destinations.RerouteResult = strawberry.field(
        resolver=destinations.reroute,
        description="Ask the routes again about a unit; enqueue what they now want and no destination has.",
        directives=[QUEUE],
    )
    create_application_entity: entities.ApplicationEntityResult = strawberry.field(
        resolver=entities.create_application_entity,
        description="Make a new Application Entity; its listener follows within seconds.",
        directives=[ENTITIES],
    )
    update_application_entity: entities.ApplicationEntityResult = strawberry.field(
        resolver=entities.update_application_entity,
        description="Change an Application Entity; what is not given stays.",
        directives=[ENTITIES],
    )
    delete_application_entity: entities.ApplicationEntityResult = strawberry.field(
        resolver=entities.delete_application_entity,
        description="Delete an Application Entity; its images and its queue stay.",
        directives=[ENTITIES],
    )
    set_application_entity_enabled: entities.ApplicationEntityResult = strawberry.field(
        resolver=entities.set_application_entity_enabled,
        description="Switch an Application Entity on or off. Off: no listener, and nothing is sent to it.",
        directives=[ENTITIES],
    )
    set_application_entity_suspended: entities.ApplicationEntityResult = strawberry.field(
        resolver=entities.set_application_entity_suspended,
        description="Have the operator leave an Application Entity alone as it is, or look after it again.",
        directives=[ENTITIES],
    )
    verify_application_entity: verification.VerifyResult = strawberry.field(
        resolver=verification.verify_application_entity,
        description="Ask a device now whether it answers (C-ECHO), how soon, and what it takes of common images.",
        directives=[EITHER],
    )
    verify_image_route: verification_of_many.DevicesResult = strawberry.field(
        resolver=verification_of_many.verify_image_route,
        description="Ask all destinations of a route now whether they answer (C-ECHO), at most 20. What it makes "
        "of an image says explainRouteOfHeader.",
        directives=[QUEUE],
    )
    verify_patient_partition: verification_of_many.DevicesResult = strawberry.field(
        resolver=verification_of_many.verify_patient_partition,
        description="Ask all devices whose images belong to a patient partition now whether they answer (C-ECHO), at "
        "most 20.",
        directives=[EITHER],
    )
    create_image_route: routes.ImageRouteResult = strawberry.field(
        resolver=routes.create_image_route, description="Make a new route.", directives=[QUEUE]
    )
    update_image_route: routes.ImageRouteResult = strawberry.field(
        resolver=routes.update_image_route,
        description="Change a route; what is not given stays.",
        directives=[QUEUE],
    )
    delete_image_route: routes.ImageRouteResult = strawberry.field(
        resolver=routes.delete_image_route,
        description="Delete a route; what was received stays.",
        directives=[QUEUE],
    )
    create_patient_partition: partitions.PatientPartitionResult = strawberry.field(
        resolver=partitions.create_patient_partition,
        description="Make a new patient partition.",
        directives=[ENTITIES],
    )
    update_patient_partition: partitions.PatientPartitionResult = strawberry.field(
        resolver=partitions.update_patient_partition,
        description="Change a patient partition; what is not given stays.",
        directives=[ENTITIES],
    )
    delete_patient_partition: partitions.PatientPartitionResult = strawberry.field(
        resolver=partitions.delete_patient_partition,
        description="Delete a patient partition; its patients and images stay.",
        directives=[ENTITIES],
    )
    save_location: locations.LocationResult = strawberry.field(
        resolver=locations.save_location,
        description="Add a location, or give the one of this code its new name.",
        directives=[ENTITIES],
    )
    remove_location: locations.LocationResult = strawberry.field(
        resolver=locations.remove_location_of,
        description="Remove a location; what names it stays, and says that it is not known.",
        directives=[ENTITIES],
    )
    cancel_operation: operations.CancelOperationResult = strawberry.field(
        resolver=operations.cancel_operation,
        description="End an operation before its next batch; what it changed stays changed.",
        directives=[QUEUE],
    )
    reroute_units: many.ManyResult = strawberry.field(
        resolver=many.reroute_units,
        description="Ask the routes again about many units, after a route was corrected, say: of a selection, or of "
        "all that a search and filter find. It goes on by itself, as an Operation.",
        directives=[QUEUE],
    )
    resolve_conflicts: many.ManyResult = strawberry.field(
        resolver=many.resolve_conflicts,
        description="Decide about many conflicts in the same way: of a selection, or of all open ones that a search "
        "and filter find. It goes on by itself, as an Operation.",
        directives=[QUEUE],
    )
    resume_operation: operations.CancelOperationResult = strawberry.field(
        resolver=operations.resume_operation,
        description="Let an operation that failed or was cancelled go on behind its last batch.",
        directives=[QUEUE],
    )
    resolve_conflict: troubles.ResolveConflictResult = strawberry.field(
        resolver=troubles.resolve_conflict,
        description="Decide about a conflict; what is held for it goes or is cancelled with that.",
        directives=[QUEUE],
    )
    release_quarantined: quarantine.ReleaseQuarantinedResult = strawberry.field(
        resolver=quarantine.release_quarantined,
        description="Let quarantined objects be indexed after all, after an update or a repair, say. What still cannot "
        "be parsed is in quarantine again, with the reason.",
        directives=[QUEUE],
    )
    dismiss_quarantined: quarantine.DismissQuarantinedResult = strawberry.field(
        resolver=quarantine.dismiss_quarantined,
        description="Say that somebody looked at objects that could not be parsed: they leave the open list, and are "
        "kept. They may be released later.",
        directives=[QUEUE],
    )
    create_worklist_item: worklist.WorklistItemResult = strawberry.field(
        resolver=worklist.create_worklist_item,
        description="Put a patient on the worklist: an examination, when and on which devices.",
        directives=[QUEUE],
    )
    update_worklist_item: worklist.WorklistItemResult = strawberry.field(
        resolver=worklist.update_worklist_item,
        description="Change a worklist item, or take a cancelled one up again; what is not given stays.",
        directives=[QUEUE],
    )
    cancel_worklist_item: worklist.WorklistItemResult = strawberry.field(
        resolver=worklist.cancel_worklist_item,
        description="Cancel a worklist item: devices are not told of it any more; it is kept.",
        directives=[QUEUE],
    )
