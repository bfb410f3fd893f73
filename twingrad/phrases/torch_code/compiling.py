"""Compilation, tracing and timing, in PyTorch."""

import time

import torch
from torch.utils.flop_counter import FlopCounterMode


def _counted(compiled):
    def backend(graph, inputs):
        compiled.append(graph)
        return graph

    return backend


def compile_a_function(x):
    @torch.compile
    def energy(x):
        return (x.sin() * x).sum()

    return energy(x)


def once_for_each_shape(x):
    compiled = []
    total = torch.compile(
        lambda x: x.sin().sum(), backend=_counted(compiled), dynamic=False
    )
    values = [total(x[:length]) for length in (2, 3, 3)]
    return values, len(compiled)


def once_for_many_shapes(x):
    compiled = []
    total = torch.compile(
        lambda x: x.sin().sum(), backend=_counted(compiled), dynamic=True
    )
    values = [total(x[:length]) for length in (2, 3, 4)]
    return values, len(compiled)


def an_argument_that_is_no_array(x):
    compiled = []

    def power(x, exponent):
        return x**exponent if exponent > 2 else x * x

    compiled_power = torch.compile(
        power, backend=_counted(compiled), dynamic=False
    )
    values = [compiled_power(x, exponent) for exponent in (2, 3, 3)]
    return values, len(compiled)


def a_setting_that_changes(x):
    scale = 2.0

    def scaled(x):
        return x * scale

    before = scaled(x)
    scale = 3.0
    return before, scaled(x)


def reuse_the_memory(state, gradient):
    before = state
    state.sub_(0.1 * gradient)
    return state, before is state  # the old numbers are gone


def measure_time(x):
    def work():
        return x @ x.T

    result = work()  # the first call is not measured
    start = time.perf_counter()
    for _ in range(3):
        result = work()
    if result.is_cuda:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / 3
    return result, seconds > 0


def count_operations(x, y):
    with FlopCounterMode(display=False) as counter:
        _ = x @ y
    return counter.get_total_flops()


def look_at_the_program(x):
    traced = torch.fx.symbolic_trace(lambda x: x.sin().sum())
    return traced(x), "sin" in str(traced.graph)


def export(x):
    class Energy(torch.nn.Module):
        def forward(self, x):
            return (x.sin() * x).sum()

    program = torch.export.export(Energy(), (x,))
    return program.module()(x)
