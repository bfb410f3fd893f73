"""Judgements by hand: survivors that no test should have noticed, and lines that none reaches."""

# By file and the changed lines before and after, stripped.
JUDGEMENTS: dict[tuple[str, str, str], str] = {}
# Why lines or branches of a file are left by the quick set.
UNREACHED: dict[str, str] = {}
