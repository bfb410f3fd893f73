"""All studies: every committed record, and every block of a page that shows one."""

from collections.abc import Sequence

from bench.studies import (
    commands,
    decoding,
    distributed,
    first_look,
    framework_defaults,
    module_times,
    numerical_traps,
    ports,
    quality,
    random_pairs,
    scan_or_unroll,
    training_runs,
    tutorial_pictures,
    writing,
)
from bench.studies.study import Block, Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        commands.COMPARE,
        commands.MUTANTS,
        commands.DIAGNOSIS,
        ports.STUDY,
        random_pairs.STUDY,
        first_look.STUDY,
        framework_defaults.STUDY,
        numerical_traps.STUDY,
        training_runs.STUDY,
        writing.STUDY,
        distributed.STUDY,
        scan_or_unroll.STUDY,
        module_times.STUDY,
        decoding.STUDY,
        tutorial_pictures.STUDY,
        commands.PLAN,
        *commands.SPEED,
        commands.FUZZ,
        commands.ATTACKS,
        *quality.STUDIES,
    )
}


def choose(names: Sequence[str]) -> list[Study]:
    """The studies of these names, or all of them; ``ValueError`` for a name that is none."""
    if "all" in names:
        return list(STUDIES.values())
    for name in names:
        if name not in STUDIES:
            raise ValueError(f"unknown study {name!r}: choose from {', '.join(STUDIES)}, all")
    return [STUDIES[name] for name in dict.fromkeys(names)]


def blocks() -> dict[str, Block]:
    """Every block of a page that shows a record, by the name it has there."""
    own = {name: block for study in STUDIES.values() for name, block in study.blocks.items()}
    return {**own, **commands.SPEED_BLOCKS}
