"""The record of attacks by group: tests that do harm on purpose, and how many were withstood."""

from bench.harness.records import Record

# What is attacked, as tests name it in ``pytest.mark.attack``, and what that means.
GROUPS = {
    "data": "files destroyed, runs lost, and verdicts that are none",
    "processes": "processes, memory and time that a command would leave or take",
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
    lines += ["", f"{tried:,} in all, {withstood}."]
    return "\n".join(lines)
