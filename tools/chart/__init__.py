"""What of the chart is generated: values.yaml, its schema, the copy of the CRDs, the number of the schema."""
