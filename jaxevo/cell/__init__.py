"""The life of a cell: rates and deterministic consequences, no dice."""
