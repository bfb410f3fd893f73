"""What ``twingrad --version`` prints, found out without importing a framework."""

import platform

from twingrad.doctor.installation import NAMES, devices_here, own_version
from twingrad.environment import checkout, installed_versions

_SHOWN = ("torch", "jax", "jaxlib", "flax", "numpy", "python")


def text() -> str:
    """A line for each version and for the devices; ``doctor`` says more."""
    versions = {**installed_versions(_SHOWN), "python": platform.python_version()}
    root = checkout()
    lines = [f"twingrad  {own_version()}{f' (checkout {root})' if root else ''}"]
    for package in _SHOWN:
        lines.append(f"{NAMES[package]:8}  {versions.get(package, 'not installed')}")
    return "\n".join([*lines, f"devices   {devices_here()}"])
