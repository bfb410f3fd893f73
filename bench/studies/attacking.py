"""The record of attacks by group: tests that do harm on purpose, and how many were withstood."""

from bench.harness.records import Record

# What is attacked, as tests name it in ``pytest.mark.attack``, and what that means.
GROUPS = {
    "data": "files destroyed, runs lost, and false verdicts",
    "processes": "processes left behind, and memory or time out of proportion",
    "network": "strangers at the ports of a run",
    "sentences": "tracebacks, and text that steers the terminal",
    "records": "benchmark records that cannot be true",
}


def markdown(record: Record) -> str:
    """A table of the groups: attacks that were tried, and those that were withstood."""
    groups: dict[str, dict[str, int]] = record["groups"]
    lines = ["| attacks | tests | tried | withstood |", "|---|---|---|---|"]
    for group, about in GROUPS.items():
        count = groups[group]
        lines.append(
            f"| {about} | {count['tests']} | {count['tried']:,} | {count['withstood']:,} |"
        )
    tried = sum(count["tried"] for count in groups.values())
    lost = tried - sum(count["withstood"] for count in groups.values())
    withstood = "all of them withstood" if not lost else f"{lost:,} of them not withstood"
    said = f"{tried:,} in all, {withstood}."
    if left := sum(count["skipped"] for count in groups.values()):
        kills = record["kills"]
        least = f"with a number over {kills}" if kills else "with a number"
        said += (
            f" {left} {'test was' if left == 1 else 'tests were'} skipped, which need a GPU, "
            f"another host, or `TWINGRAD_KILLS` {least}."
        )
    lines += ["", said]
    return "\n".join(lines)
