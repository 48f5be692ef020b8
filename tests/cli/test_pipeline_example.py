"""The example workflow and policy of docs/pipeline.md are ones that goodnet understands."""

import re
import shlex

import pytest
import yaml

from goodnet.cli import goodnet as program
from goodnet.reports.policy import Policy


@pytest.fixture(scope="module")
def examples(repository):
    return repository / "docs" / "examples"


@pytest.fixture(scope="module")
def steps(examples):
    workflow = yaml.safe_load((examples / "scan-networks.yml").read_text())
    assert workflow["permissions"]["security-events"] == "write"
    return workflow["jobs"]["scan"]["steps"]


def check_command(words):
    """Parse a command as `goodnet` would, without running it."""
    assert words[0] == "goodnet"
    command = program.get_command(None, words[1])
    return command.make_context(words[1], words[2:]).params


def test_the_policy_is_one(examples):
    assert Policy.read(examples / "policy.toml") == Policy(least_clean_accuracy=0.9)


def test_every_key_of_the_policy_is_documented(repository):
    text = (repository / "docs" / "pipeline.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(Policy.model_fields)


def test_the_workflow_s_commands_fit_one_another(steps):
    given = {step["name"]: check_command(shlex.split(step["run"])) for step in steps if "name" in step}
    assert str(given["scan"]["out"]) == "runs/scan"
    assert [str(run) for run in given["report"]["runs"]] == ["runs"]
    uploads = {step["uses"].partition("@")[0]: step["with"] for step in steps if "upload" in step.get("uses", "")}
    assert uploads["github/codeql-action/upload-sarif"]["sarif_file"] == str(given["scan"]["sarif"])
    assert str(given["report"]["out"]) in uploads["actions/upload-artifact"]["path"].split()


def test_the_commands_of_the_page(repository):
    text = (repository / "docs" / "pipeline.md").read_text()
    commands = re.findall(r"^\$ (.+)$", text, re.MULTILINE)
    assert len(commands) == 2
    scan, _ = (check_command(shlex.split(command)) for command in commands)
    assert str(scan["policy"]) == "policy.toml"
