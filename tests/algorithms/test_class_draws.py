import torch

from goodnet.algorithms.class_draws import draws_of


def test_a_class_draws_the_same_in_one_run_and_others_in_another() -> None:
    draws = {(seed, label): torch.rand(4, generator=draws_of(seed, label)) for seed in (0, 1) for label in (0, 1, 1282)}
    assert len({tuple(values.tolist()) for values in draws.values()}) == 6
    assert torch.equal(torch.rand(4, generator=draws_of(1, 1282)), draws[1, 1282])
