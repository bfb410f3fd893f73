"""Identifiers of a page's places, made from their names, so that a link survives a rerun."""

import re


def slug(*names: str | None) -> str:
    """``names`` as one identifier without spaces: dots and colons stay, a slash parts them."""
    return "/".join(re.sub(r"[^\w.:]+", "-", name).strip("-") or "-" for name in names if name)


class Anchors:
    """Identifiers of one page, each given once."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def new(self, *names: str | None) -> str:
        """The identifier of ``names``; with a number where other names gave the same one."""
        wanted = slug(*names)
        self._counts[wanted] = count = self._counts.get(wanted, 0) + 1
        return wanted if count == 1 else self.new(f"{wanted}:{count}")
