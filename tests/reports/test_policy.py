"""What a pipeline lets pass."""

import pytest

from goodnet.core.errors import InvalidOption, UnreadableData
from goodnet.core.results import Rate
from goodnet.reports.policy import Policy
from tests.reports.conftest import make_detection

CLEAN = make_detection(verdict="clean", suspected=())
DOUBTFUL = make_detection(verdict="inconclusive", suspected=(), reason="too few images")


def broken(policy, detection):
    return [violation.rule for violation in policy.violations(detection)]


@pytest.mark.parametrize(
    ("rules", "detection", "expected"),
    [
        ({}, CLEAN, []),
        ({}, make_detection(), ["fail_on_backdoored"]),
        ({}, DOUBTFUL, ["fail_on_inconclusive"]),
        ({"fail_on_backdoored": False}, make_detection(), []),
        ({"fail_on_inconclusive": False}, DOUBTFUL, []),
        ({"least_clean_accuracy": 0.95}, CLEAN, []),
        ({"least_clean_accuracy": 0.96}, CLEAN, ["least_clean_accuracy"]),
        ({"least_clean_accuracy": 1.0}, make_detection(), ["fail_on_backdoored", "least_clean_accuracy"]),
    ],
)
def test_which_rules_are_broken(rules, detection, expected):
    assert broken(Policy(**rules), detection) == expected


def test_violations_say_what_is_wrong():
    policy = Policy(least_clean_accuracy=0.96)
    assert [item.message for item in policy.violations(make_detection())] == [
        "the scan suspects a backdoor, target 0",
        "clean accuracy 0.9500 on 80 images is below 0.96",
    ]
    assert "too few images" in policy.violations(DOUBTFUL)[0].message


def test_an_accuracy_that_nobody_knows_cannot_pass():
    unknown = make_detection(verdict="clean", suspected=(), clean_accuracy=None)
    with pytest.raises(UnreadableData, match="no labels that the network knows"):
        Policy(least_clean_accuracy=0.1).violations(unknown)
    assert Policy().violations(unknown) == ()


def test_a_policy_is_read_from_toml(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text("fail_on_inconclusive = false\nleast_clean_accuracy = 0.9\n")
    assert Policy.read(path) == Policy(fail_on_inconclusive=False, least_clean_accuracy=0.9)
    path.write_text("")
    assert Policy.read(path) == Policy()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fail_on_backdoor = true", "unknown key 'fail_on_backdoor'; is it misspelt"),
        ("least_clean_accuracy = 95", "'least_clean_accuracy': input should be less than or equal to 1, got 95"),
        ('fail_on_backdoored = "perhaps"', "'fail_on_backdoored'"),
        ("fail_on_backdoored = ", "expected TOML"),
    ],
)
def test_a_policy_that_makes_no_sense(text, message, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(InvalidOption) as caught:
        Policy.read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_policy_that_is_not_there(tmp_path):
    with pytest.raises(UnreadableData, match="no such file"):
        Policy.read(tmp_path / "standard")


def test_rates_at_the_limit_pass():
    detection = make_detection(verdict="clean", suspected=(), clean_accuracy=Rate.of(9, 10))
    assert broken(Policy(least_clean_accuracy=0.9), detection) == []
