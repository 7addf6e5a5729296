"""The operator: watch ApplicationEntities, keep their listeners as declared, and say how they are."""
