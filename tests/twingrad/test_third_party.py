"""Ports of transformers' models: right ones are equal, and what is planted in them is located."""

import pytest

from bench.harness import frameworks

if not all(map(frameworks.installed, frameworks.NAMES)):
    pytest.skip("a pair needs both frameworks", allow_module_level=True)

from bench.studies import ports
from tests.helpers import third_party

BUGS = {
    f"{bug.port}-{bug.name}": bug for name in third_party.names() for bug in third_party.bugs(name)
}


@pytest.mark.slow
@pytest.mark.parametrize("name", third_party.names())
def test_a_right_port_is_equal(name):
    path = third_party.PORTS / name / f"{third_party.RIGHT}.py"
    answer = third_party.diagnosed(path)
    assert (answer["status"], answer["findings"]) == (0, [])
    assert third_party.compared(path)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_located(name, tmp_path):
    bug = BUGS[name]
    path = tmp_path / f"{bug.name.replace('-', '_')}.py"
    path.write_text(bug.source())
    row = ports.judge(third_party.as_port(bug), third_party.diagnosed(path))
    assert row["right"], row["findings"]


@pytest.mark.parametrize("name", third_party.names())
def test_every_port_has_five_bugs_or_more_whose_text_stands_in_it_once(name):
    assert len({bug.source() for bug in third_party.bugs(name)}) >= 5
