"""What one framework sees and how it is set, asked in a process of its own.

Run as a file, ``python -P probe.py torch``, it imports that framework and prints one JSON object.
It imports nothing of this package, so that only the framework can make it fail or hang.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from typing import TypedDict


class Device(TypedDict):
    """A device, and what was wrong with a small product of matrices on it; None if nothing."""

    device: str
    model: str
    memory_bytes: int | None
    error: str | None


class Answer(TypedDict, total=False):
    """What a framework answered: devices and settings, or the error that kept it from answering."""

    devices: list[Device]
    settings: dict[str, str]
    cache: str | None
    error: str
    timed_out: bool


def ask(frameworks: Sequence[str], seconds: float) -> dict[str, Answer]:
    """The answer of each framework, all asked at once; one without an answer in time is ended."""
    deadline = time.monotonic() + seconds
    started = {
        name: subprocess.Popen(
            [sys.executable, "-P", __file__, name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        for name in frameworks
    }
    return {
        name: _answer(process, max(deadline - time.monotonic(), 0.1), seconds)
        for name, process in started.items()
    }


def _answer(process: "subprocess.Popen[str]", left: float, limit: float) -> Answer:
    try:
        output, errors = process.communicate(timeout=left)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        # A process that a driver holds in the kernel does not end even now: nobody waits longer.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        return {"error": f"no answer within {limit:g} s", "timed_out": True}
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            answer: Answer = json.loads(line)
            return answer
    last = (errors.strip().splitlines() or ["no output"])[-1]
    return {"error": f"it ended with status {process.returncode}: {last[:300]}"}


def _torch() -> Answer:
    import torch

    names = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    devices = []
    for name in names:
        model, size, error = "", None, None
        try:
            if name != "cpu":
                properties = torch.cuda.get_device_properties(name)
                model, size = properties.name, properties.total_memory
            ones = torch.ones(8, 8, device=name)
            if (ones @ ones).sum().item() != 512:
                error = "a product of matrices of ones is wrong"
        except Exception as raised:  # whatever a driver says
            error = _first_line(raised)
        devices.append(Device(device=name, model=model, memory_bytes=size, error=error))
    settings = {
        "float32 matmul": torch.get_float32_matmul_precision(),
        "deterministic algorithms": _on(torch.are_deterministic_algorithms_enabled()),
        "threads": str(torch.get_num_threads()),
        "CUDA of the build": torch.version.cuda or "none",
    }
    if torch.version.cuda:
        settings["cuDNN TF32"] = _on(torch.backends.cudnn.allow_tf32)
    return Answer(devices=devices, settings=settings, cache=None)


def _jax() -> Answer:
    import jax
    import jax.numpy as jnp

    importlib.import_module("flax.nnx")
    importlib.import_module("optax")
    seen = list(jax.devices())
    seen += [device for device in jax.devices("cpu") if device not in seen] if seen else []
    devices = []
    for device in seen:
        size, error = None, None
        try:
            size = (device.memory_stats() or {}).get("bytes_limit")
            ones = jax.device_put(jnp.ones((8, 8)), device)
            if float((ones @ ones).sum()) != 512:
                error = "a product of matrices of ones is wrong"
        except Exception as raised:  # whatever a driver says
            error = _first_line(raised)
        kind = "cuda" if device.platform == "gpu" else device.platform
        name = kind if kind == "cpu" else f"{kind}:{device.id}"
        model = "" if kind == "cpu" else device.device_kind
        devices.append(Device(device=name, model=model, memory_bytes=size, error=error))
    folder = _value(jax.config, "jax_compilation_cache_dir")
    precision = _value(jax.config, "jax_default_matmul_precision")
    settings = {
        "x64": _on(_value(jax.config, "jax_enable_x64")),
        "matmul precision": str(precision or "the backend's own"),
        "random generator": str(_value(jax.config, "jax_default_prng_impl")),
        "platforms": str(_value(jax.config, "jax_platforms") or "whatever is found"),
        "compilation": "off" if _value(jax.config, "jax_disable_jit") else "on",
    }
    return Answer(devices=devices, settings=settings, cache=str(folder) if folder else None)


def _value(config: object, name: str) -> object:
    """A setting of JAX, whose own types do not know it."""
    return getattr(config, name)


def _on(value: object) -> str:
    return "on" if value else "off"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:300]


def _end_with_parent() -> None:
    """Have the system end this process with the one that started it, from its main thread.

    The library's own way cannot be imported here, where only what is examined is on the path.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0)


def main(arguments: Sequence[str]) -> int:
    """Print the answer of the framework that is named."""
    warnings.simplefilter("ignore")
    _end_with_parent()
    try:
        answer = _torch() if arguments[0] == "torch" else _jax()
    except Exception as error:  # of whatever class a broken installation raises
        answer = Answer(error=_first_line(error))
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
