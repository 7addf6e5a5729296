"""The workers (DICOM SCU): close studies, route, push, echo."""
