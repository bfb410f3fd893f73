"""Texts that a trained model continues."""

from bench.cli import main
from bench.harness.frameworks import NAMES


def test_a_sample_from_a_run_is_alike_in_both_frameworks(both, capsys):
    written = []
    for name in NAMES:
        asked = ["sample", "--framework", name, "--checkpoint", str(both), "--prompt", "The"]
        assert main.main([*asked, "--tokens", "30", "--seed", "3", "--top-k", "20"]) == 0
        written.append(capsys.readouterr().out)
    assert written[0] == written[1]
    assert written[0].startswith("The")
