"""One module per group of rows; each has `measure(world)`, which returns a section of the report."""
