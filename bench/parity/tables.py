"""The verdict tables of a comparison of the built-in programs, from its record."""

import io

from rich.console import Console

from bench.harness.records import load
from bench.parity import demo_tables, summary
from bench.parity.demos import NeuronNumbers
from twingrad import outcome as twingrad_outcome
from twingrad import outcome_tables
from twingrad.terminal import PIPE_WIDTH

# The rules of the gates that are for the built-in programs alone stand beside the library's.
RULES = outcome_tables.RULES | {
    "values": "the same lines in NumPy, PyTorch and JAX: equal, or different as a note says",
    "central-differences": "autograd against finite differences",
    "optimizer": "updates under injected gradients, against the rule written out",
    "mixed pass": "a training step's pass over narrow copies of the parameters, each side against "
    "float64 at its own",
    "mixed update": "each side's clipping, moments and update, against AdamW written out",
    "mixed trajectory": "each side's losses and gradient norms, against wider training runs",
    "trajectory": "losses and gradient norms of a training run, step by step",
}


def comparison(argument: str) -> str:
    """The verdict tables of a comparison, as a pipe has them."""
    report = load(argument).as_object()
    text = io.StringIO()
    console = Console(file=text, width=PIPE_WIDTH, highlight=False, color_system=None)
    judged = twingrad_outcome.outcomes(report)
    for program in report["programs"]:
        if "neuron" in program.get("lessons", {}):
            demo_tables.neuron(console, NeuronNumbers(**program["lessons"]["neuron"]))
    titles = dict.fromkeys((outcome.program, outcome.preset) for outcome in judged)
    for program, preset in titles:
        same = [o for o in judged if (o.program, o.preset) == (program, preset)]
        outcome_tables.outcomes(console, f"{program} {preset}" if preset else program, same)
    summary.show(console, judged)
    outcome_tables.closing(console, judged, report["seconds"])
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return "```\n" + "\n".join(lines).strip("\n") + "\n```"
