"""What a pipeline lets pass: a few rules in TOML, and what a scan breaks of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from goodnet.core.errors import UnreadableData
from goodnet.core.results import Detection, Record
from goodnet.formats.toml_files import Strict, read_toml

Rule = Literal["fail_on_backdoored", "fail_on_inconclusive", "least_clean_accuracy"]


class Violation(Record):
    """A rule of the policy that a scan breaks, and how, in one sentence."""

    rule: Rule
    message: str


class Policy(Strict):
    """The rules: a network that breaks one of them must not be used."""

    fail_on_backdoored: bool = Field(True, description="A verdict 'backdoored' is a violation.")
    fail_on_inconclusive: bool = Field(True, description="A verdict 'inconclusive' is a violation.")
    least_clean_accuracy: float | None = Field(
        None, ge=0, le=1, description="Least accuracy on the clean images, a fraction; they need labels then."
    )

    @classmethod
    def read(cls, path: str | Path) -> Policy:
        """Read a policy from a TOML file.

        Raises:
            InvalidOption: it is no TOML, a key is misspelt, or a value is out of bounds.
            UnreadableData: there is no such file.
        """
        return read_toml(path, cls)

    def violations(self, detection: Detection) -> tuple[Violation, ...]:
        """Return the rules that `detection` breaks, none where the network may pass.

        Raises:
            UnreadableData: the policy asks for an accuracy, and the clean images have no labels that the network knows.
        """
        found = []
        if self.fail_on_backdoored and detection.verdict == "backdoored":
            message = f"the scan suspects a backdoor, {detection.name_targets()}"
            found.append(Violation(rule="fail_on_backdoored", message=message))
        if self.fail_on_inconclusive and detection.verdict == "inconclusive":
            found.append(
                Violation(rule="fail_on_inconclusive", message=f"the scan could not decide: {detection.reason}")
            )
        return (*found, *self._accuracy_violations(detection))

    def _accuracy_violations(self, detection: Detection) -> tuple[Violation, ...]:
        least, accuracy = self.least_clean_accuracy, detection.clean_accuracy
        if least is None:
            return ()
        if accuracy is None:
            raise UnreadableData(
                "the policy asks for a clean accuracy, and the clean images have no labels that the network knows; "
                "give labelled images, or take least_clean_accuracy out of the policy"
            )
        if accuracy.value >= least:
            return ()
        message = f"clean accuracy {accuracy.value:.4f} on {accuracy.n} images is below {least:g}"
        return (Violation(rule="least_clean_accuracy", message=message),)
