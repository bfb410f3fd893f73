"""The manifest for Kubernetes: by its schema, and as one run with what it names."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from bench.cli.main import main
from bench.training import launcher
from bench.training.config import RunSettings, resolve
from bench.training.launcher import LaunchOptions
from bench.training.processes import require_fit
from bench.training.setup import TrainOptions
from tests.docs.pages import DOCS
from twingrad.cli.options import Parser, add_options, read_options

yaml = pytest.importorskip("yaml")
MANIFEST = DOCS / "kubernetes" / "jobset.yaml"
SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parent / "kubernetes.schema.json").read_text(encoding="utf-8"))
)
JOB = ("spec", "replicatedJobs", 0, "template", "spec")
POD = (*JOB, "template", "spec")
CONTAINER = (*POD, "containers", 0)
GONE = object()


@pytest.fixture
def documents():
    return list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))


def _at(document, path):
    for key in path:
        document = document[key]
    return document


def test_the_manifest_holds_to_its_schema(documents):
    assert [document["kind"] for document in documents] == ["JobSet", "NetworkPolicy"]
    for document in documents:
        SCHEMA.validate(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("kind",), "Job"),
        (("apiVersion",), "v1"),
        (("metadata", "name"), "Twingrad"),
        (("spec", "replicas"), 2),
        (("spec", "failurePolicy", "maxRestarts"), "10"),
        (("spec", "failurePolicy", "restartStrategy"), "Restart"),
        (("spec", "network", "enableDNSHostnames"), "yes"),
        (("spec", "replicatedJobs", 0, "template"), GONE),
        ((*JOB, "completions"), -1),
        ((*JOB, "completionMode"), "indexed"),
        ((*JOB, "restartPolicy"), "Never"),
        ((*POD, "restartPolicy"), "Always"),
        ((*POD, "restartPolicy"), GONE),
        ((*POD, "containers"), GONE),
        ((*CONTAINER, "command"), "twingrad train"),
        ((*CONTAINER, "command", 2), 8),
        ((*CONTAINER, "volumeMounts", 0, "path"), "/shared"),
        ((*POD, "volumes", 0, "emptyDir"), {}),
        ((*POD, "volumes", 0, "persistentVolumeClaim", "claimName"), GONE),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_a_manifest_that_a_cluster_would_refuse_is_seen(documents, path, value):
    found = copy.deepcopy(documents[0])
    *way, last = path
    part = _at(found, way)
    if value is GONE:
        del part[last]
    else:
        part[last] = value
    assert not SCHEMA.is_valid(found)


def test_what_the_pods_mount_is_there(documents):
    mounted = {mount["name"] for mount in _at(documents[0], CONTAINER)["volumeMounts"]}
    assert mounted == {volume["name"] for volume in _at(documents[0], POD)["volumes"]}


def test_the_pods_of_the_run_alone_are_let_in(documents):
    ours = {"matchLabels": {"jobset.sigs.k8s.io/jobset-name": documents[0]["metadata"]["name"]}}
    policy = documents[1]["spec"]
    assert (policy["podSelector"], policy["policyTypes"]) == (ours, ["Ingress"])
    assert policy["ingress"] == [{"from": [{"podSelector": ours}]}]


def _command(documents, index):
    """The command of the pod ``index``, with the variable that Kubernetes puts in."""
    words = _at(documents[0], CONTAINER)["command"]
    assert words[:2] == ["twingrad", "train"]
    return [word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in words[2:]]


def _options(documents, index):
    parser = Parser()
    for options in (TrainOptions, RunSettings, LaunchOptions):
        add_options(parser, options)
    parsed = parser.parse_args(_command(documents, index))
    settings = read_options(RunSettings, parsed)
    train = replace(read_options(TrainOptions, parsed), settings=settings)
    return train, settings, read_options(LaunchOptions, parsed)


def test_its_command_is_one_run_over_all_pods_with_a_process_for_each_gpu(documents):
    (job,) = documents[0]["spec"]["replicatedJobs"]
    name, pods = documents[0]["metadata"]["name"], _at(documents[0], JOB)["completions"]
    assert (job["replicas"], _at(documents[0], JOB)["parallelism"]) == (1, pods)
    ranks = []
    for index in range(pods):
        train, settings, options = _options(documents, index)
        launch = launcher.plan_launch(options, settings, {})
        assert list(launch.hosts) == [f"{name}-{job['name']}-0-{pod}.{name}" for pod in range(pods)]
        assert (
            launch.processes
            == _at(documents[0], CONTAINER)["resources"]["limits"]["nvidia.com/gpu"]
        )
        ranks += [world.rank for world in launcher._worlds(launch)]
        require_fit(train, launch.size)
        assert resolve(settings).train.processes == launch.size == 16
    assert ranks == [*range(16)]


def test_a_pod_that_is_made_again_goes_on_from_the_file_system_that_all_have(documents):
    train, _, _ = _options(documents, 0)
    assert train.resume
    assert train.begin
    places = {
        mount["name"]: mount["mountPath"] for mount in _at(documents[0], CONTAINER)["volumeMounts"]
    }
    assert train.out.is_relative_to(places["shared"])
    job = _at(documents[0], JOB)
    assert (job["backoffLimit"], job["completionMode"]) == (0, "Indexed")
    assert _at(documents[0], POD)["restartPolicy"] == "Never"
    assert documents[0]["spec"]["failurePolicy"]["maxRestarts"] > 0


def test_the_command_line_takes_its_command(documents, monkeypatch):
    monkeypatch.setattr(launcher, "run", lambda launch, words: 7 if launch.host_index == 1 else 8)
    monkeypatch.delenv("RANK", raising=False)
    assert main(["train", *_command(documents, 1)]) == 7


def test_the_page_shows_where_it_is_and_what_happens_when_a_host_is_lost():
    page = (DOCS / "distributed.md").read_text(encoding="utf-8")
    assert "(kubernetes/jobset.yaml)" in page
    section = page.partition("## When a host is lost")[2].partition("\n## ")[0]
    for launcher_ in ("--processes", "torchrun", "SLURM", "Kubernetes"):
        assert re.search(rf"^\| {re.escape(launcher_)}|^\| `{re.escape(launcher_)}", section, re.M)
