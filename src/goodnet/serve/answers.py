"""What is answered: the records of the interface, and the judgement of one picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from goodnet.pair.deployment import DeployedCard
from goodnet.pair.onnx import OnnxOutputs
from goodnet.serve.options import Fail

#: The guard that an exported GoodNet carries, by its name in the catalogue.
_GUARD = "disagreement"
#: Who refuses where the guard itself failed and the server fails closed.
_FAIL_CLOSED = "fail_closed"


class Score(BaseModel):
    """A class and the network's score of it; class N, one more than the last, is the score of "refused"."""

    model_config = ConfigDict(populate_by_name=True)
    label: int = Field(alias="class")
    name: str | None
    score: float


class Opinions(BaseModel):
    """The class that the original network gives, and the one that the repaired network gives.

    The second is null where the repaired network was not asked: the original's class is no suspected target.
    """

    original: int
    repaired: int | None


class Answer(BaseModel):
    """What is said of one picture.

    `class` is N, one more than the last, where it is refused; `guard` then says by which guard, and `reason` why.
    `guarded` is false where the guard failed and the server was started with `--fail open`.
    """

    model_config = ConfigDict(populate_by_name=True)
    label: int = Field(alias="class")
    class_name: str | None
    refused: bool
    guard: str | None
    reason: str
    scores: list[Score]
    opinions: Opinions
    guarded: bool


class Prediction(BaseModel):
    """The answer to a request: one for each picture, in their order."""

    request_id: str
    images: list[Answer]


class Problem(BaseModel):
    """Why there is no answer."""

    status: int
    reason: str
    request_id: str | None = None


def judge(card: DeployedCard, outputs: OnnxOutputs, k: int, fail: Fail) -> list[Answer]:
    """Return the answer to each picture, with the `k` highest scores above 0."""
    scores = outputs.scores
    finite = np.asarray(np.isfinite(scores).all(axis=1))
    labels: list[int] = scores.argmax(axis=1).tolist()
    rows = zip(scores, _find_top(scores, k), labels, outputs.opinions.tolist(), finite, strict=True)
    return [
        _judge_scores(card, label, _as_scores(card, row, top), opinions)
        if is_finite
        else _judge_blindly(card, opinions, fail)
        for row, top, label, opinions, is_finite in rows
    ]


def _judge_scores(card: DeployedCard, label: int, scores: list[Score], opinions: list[int]) -> Answer:
    refused = label == card.classes
    return Answer(
        label=label,
        class_name=_class_name(card, label),
        refused=refused,
        guard=_GUARD if refused else None,
        reason=_explain(card, opinions, refused),
        scores=scores,
        opinions=_as_opinions(opinions),
        guarded=True,
    )


def _judge_blindly(card: DeployedCard, opinions: list[int], fail: Fail) -> Answer:
    """Answer a picture whose scores are no numbers: whether it is to be refused is not known."""
    refused = fail == "closed"
    label = card.classes if refused else opinions[0]
    done = (
        "refused, as the server fails closed"
        if refused
        else "the original's class, unguarded, as the server fails open"
    )
    return Answer(
        label=label,
        class_name=_class_name(card, label),
        refused=refused,
        guard=_FAIL_CLOSED if refused else None,
        reason=f"the network's scores of this picture are no numbers: {done}",
        scores=[],
        opinions=_as_opinions(opinions),
        guarded=refused,
    )


def _find_top(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.intp]:
    """Return the classes of the `k` highest scores of each row (n, N + 1), the highest first, (n, k or N + 1)."""
    # One maximum after the other: for 5 of 1,284 classes argpartition took 5 to 27 times as long.
    left, rows = scores.copy(), np.arange(len(scores))
    top = np.empty((len(scores), min(k, scores.shape[1])), np.intp)
    for place in range(top.shape[1]):
        top[:, place] = left.argmax(axis=1)
        left[rows, top[:, place]] = -np.inf
    return top


def _as_scores(card: DeployedCard, scores: npt.NDArray[np.float32], top: npt.NDArray[np.intp]) -> list[Score]:
    return [
        Score(label=label, name=_class_name(card, label), score=score)
        for label, score in zip(top.tolist(), scores[top].tolist(), strict=True)
        if score > 0
    ]


def _as_opinions(opinions: list[int]) -> Opinions:
    original, repaired = opinions
    return Opinions(original=original, repaired=None if repaired < 0 else repaired)


def _explain(card: DeployedCard, opinions: list[int], refused: bool) -> str:
    if opinions[1] < 0:
        return f"original says {_named(card, opinions[0])}, no suspected target; repaired was not asked"
    original, repaired = (_named(card, label) for label in opinions)
    if opinions[0] == opinions[1]:
        return f"original and repaired both say {original}"
    suspected = card.targets is not None and opinions[0] in card.targets
    if refused:
        return f"original says {original}{', a suspected target' if suspected else ''}; repaired says {repaired}"
    return f"original says {original}, no suspected target; repaired says {repaired}"


def _class_name(card: DeployedCard, label: int) -> str | None:
    return None if card.class_names is None or label == card.classes else card.class_names[label]


def _named(card: DeployedCard, label: int) -> str:
    name = _class_name(card, label)
    return str(label) if name is None else f"{label} ({name})"
