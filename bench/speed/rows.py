"""Rows of a benchmark record, made of what a group of contestants measured."""

from dataclasses import asdict

from bench.harness import machine
from bench.speed import derivation, scheduler, statistics, workloads
from bench.speed.results import Outcome, Result, Timing, Work
from bench.speed.scheduler import WorkerHandle
from bench.speed.setup import BenchSetup
from bench.speed.stage_run import Group
from bench.speed.workloads import FOLLOWING, PROMPT, Stage


def results(group: Group, stage: Stage, setup: BenchSetup, ceiling: float) -> list[Result]:
    """A row for each contestant of a group, timed or not; none where nothing was measured.

    ``ceiling`` is the best rate of any matrix product alone, FLOP/s.
    """
    workers = list(group.workers.values())
    if not any(worker.samples or worker.failure for worker in workers):
        return []
    return [_result(worker, group, stage, setup, ceiling) for worker in workers]


def _result(
    worker: WorkerHandle, group: Group, stage: Stage, setup: BenchSetup, ceiling: float
) -> Result:
    contestant, readiness = worker.contestant, worker.readiness
    timed = worker.status.outcome is Outcome.TIMED
    samples = tuple(worker.samples) if timed else ()
    return Result(
        workload=group.workload,
        variant=group.variant,
        preset=stage.preset or stage.program,
        contestant=contestant.name,
        framework=contestant.framework,
        tier=contestant.tier,
        status=worker.status,
        batch_size=group.rows or stage.batch_size,
        length=PROMPT + FOLLOWING if group.rows else stage.length,
        n_layers=stage.config.n_layers if stage.program == "gpt2" else 0,
        dtype=setup.dtype_of(stage),
        about=contestant.described(),
        state=worker.state,
        parity=readiness.parity if readiness else None,
        samples=samples,
        samples_s=derivation.counted(samples, scheduler.quiet_cores()),
        timing=_timing(worker, group, stage, setup, ceiling) if timed else None,
    )


def _timing(
    worker: WorkerHandle, group: Group, stage: Stage, setup: BenchSetup, ceiling: float
) -> Timing:
    readiness = worker.readiness
    if readiness is None:
        raise RuntimeError(f"{worker.name} has samples, but was not warmed up")
    counted = derivation.counted(worker.samples, scheduler.quiet_cores())
    summary = statistics.summary(counted)
    first_s, step_s = readiness.first_s, readiness.step_s
    if group.workload != "cold":  # a start has no later step
        # A machine may have stood still while it warmed up: then a sample was quicker.
        step_s = min([step_s, *(sample.seconds for sample in worker.samples)])
    work, peak = _work(group, stage, setup), datasheet(setup.device)
    rates = derivation.rates(
        worker.samples,
        median_s=summary.median_s,
        first_s=first_s,
        step_s=step_s,
        work=work,
        datasheet=peak,
        ceiling=ceiling,
        quiet=scheduler.quiet_cores(),
    )
    return Timing(
        **asdict(summary),
        first_s=first_s,
        step_s=step_s,
        peak_bytes=readiness.peak.bytes,
        peak_host_bytes=readiness.peak.host,
        work=work,
        datasheet_flops_per_s=peak,
        **asdict(rates),
    )


def _work(group: Group, stage: Stage, setup: BenchSetup) -> Work:
    """The work of a step or continuation, from which all rates follow."""
    if group.rows:
        itemsize = 2 if setup.dtype == "bfloat16" else 4
        read = workloads.decode_bytes(stage.config, itemsize) * FOLLOWING
        return Work(tokens=group.rows * FOLLOWING, bytes=read)
    if stage.program != "gpt2" or group.workload == "cold":
        return Work()
    workload = "train" if group.workload == "growth" else group.workload
    flops = workloads.flops(workload, stage.config, stage.batch_size, stage.length)
    return Work(tokens=stage.batch_size * stage.length, flops=flops)


def datasheet(device: str) -> float | None:
    """Dense peak of the GPU in FLOP/s by its datasheet; ``None`` if unknown."""
    if device != "cuda":
        return None
    name = machine.gpu_name()
    return next((peak for known, peak in workloads.DATASHEET.items() if known in name), None)
