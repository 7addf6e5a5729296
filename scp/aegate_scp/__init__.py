"""The listener of an Application Entity (DICOM SCP) and the indexer beside it."""
