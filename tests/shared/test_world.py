"""The world of processes, as torchrun and SLURM describe it."""

import pytest

from shared.world import World, first_host

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "node-a",
    "MASTER_PORT": "29400",
}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-10]",
    "SLURM_JOB_ID": "4100",
}


def test_without_a_launcher_there_is_one_process():
    assert World.from_environment({"HOME": "/root"}) == World()
    assert (World().rank, World().size, World().local_rank) == (0, 1, 0)


def test_torchrun_says_all_there_is_to_know():
    expected = World(rank=3, size=4, local_rank=1, host="node-a", port=29400)
    assert World.from_environment(TORCHRUN) == expected


def test_srun_processes_meet_on_the_first_node():
    expected = World(rank=5, size=8, local_rank=1, host="gpu07", port=61440 + 4)
    assert World.from_environment(SLURM) == expected


def test_a_job_script_may_say_where_processes_meet():
    world = World.from_environment(SLURM | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29501"})
    assert (world.host, world.port, world.rank) == ("10.0.0.1", 29501, 5)


def test_torchrun_inside_srun_is_what_counts():
    assert World.from_environment(SLURM | TORCHRUN) == World.from_environment(TORCHRUN)


def test_a_batch_script_outside_srun_is_one_process():
    """SLURM tells it the number of tasks of the job, none of which it is."""
    script = {name: SLURM[name] for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_ID")}
    assert World.from_environment(script) == World()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("gpu[07-10]", "gpu07"),
        ("gpu[3,5-6]", "gpu3"),
        ("gpu[007],login", "gpu007"),
        ("a,b[1-2]", "a"),
        ("rack[0-1]-node[02-04]", "rack0-node02"),
        ("gpu[1-4]-ib.cluster", "gpu1-ib.cluster"),
    ],
)
def test_the_first_host_of_slurms_short_form(nodes, first):
    assert first_host(nodes) == first


@pytest.mark.parametrize("name", TORCHRUN)
@pytest.mark.parametrize("missing", [None, ""])
def test_half_a_torchrun_is_refused_by_what_it_lacks(name, missing):
    environ = {key: value for key, value in TORCHRUN.items() if key != name}
    if missing is not None:
        environ[name] = missing
    with pytest.raises(ValueError, match=f"{name} is not set.*start with torchrun"):
        World.from_environment(environ)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (TORCHRUN | {"RANK": "4"}, "RANK is '4': expected a whole number, from 0 to 3"),
        (TORCHRUN | {"RANK": "-1"}, "RANK is '-1': expected a whole number, from 0 to 3"),
        (TORCHRUN | {"WORLD_SIZE": "0"}, "WORLD_SIZE is '0': expected a whole number, 1 or more"),
        (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two': expected a whole number"),
        (TORCHRUN | {"LOCAL_RANK": "4"}, "LOCAL_RANK is '4': expected a whole number, from 0 to 3"),
        (TORCHRUN | {"MASTER_PORT": "65536"}, "MASTER_PORT is '65536': .* from 1 to 65535"),
        (TORCHRUN | {"MASTER_PORT": "²"}, "MASTER_PORT is '²': expected a whole number"),
        (SLURM | {"SLURM_PROCID": "8"}, "SLURM_PROCID is '8': .* from 0 to 7"),
        (SLURM | {"SLURM_JOB_ID": "x"}, "SLURM_JOB_ID is 'x': expected a whole number"),
        (SLURM | {"MASTER_PORT": ""}, "MASTER_PORT is '': expected a whole number"),
    ],
)
def test_a_number_that_is_none_is_refused_by_its_variable(environ, message):
    with pytest.raises(ValueError, match=message):
        World.from_environment(environ)


@pytest.mark.parametrize("size", ["1048577", "9" * 20])
@pytest.mark.attack("processes")
def test_a_world_beyond_any_machine_is_refused_at_once(size):
    with pytest.raises(ValueError, match=r"WORLD_SIZE is '\d+': expected 1048576 processes"):
        World.from_environment(TORCHRUN | {"WORLD_SIZE": size})
