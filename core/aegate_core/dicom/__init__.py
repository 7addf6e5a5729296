"""The words of DICOM as values: titles, identifiers, headers. Nothing here opens a connection."""
