"""The workbench, the only place where both sides meet: compare, plant bugs, report."""
