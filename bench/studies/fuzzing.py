"""The record of bad files and command lines that every reader was given."""

from bench.harness.records import Record


def markdown(record: Record) -> str:
    """A table of how many bad files each reader refused, and how many it read."""
    readers: dict[str, dict[str, int]] = record["readers"]
    lines = ["| reader | given | refused | read, or passed over |", "|---|---|---|---|"]
    for name, count in readers.items():
        refused, read = count.get("refused", 0), count.get("read", 0)
        lines.append(f"| {name} | {refused + read:,} | {refused:,} | {read:,} |")
    total = sum(sum(count.values()) for count in readers.values())
    lines += [
        "",
        f"{total:,} in all, in {record['seconds']:.0f} s. Besides, {record['configurations']:,} "
        "random configurations of GPT-2 passed the float64 gate of `compare`.",
    ]
    return "\n".join(lines)
