import torch

from goodnet.triggers.class_draws import draw_from, draw_others, draws_of


def test_a_class_draws_the_same_in_one_run_and_others_in_another() -> None:
    draws = {(seed, label): torch.rand(4, generator=draws_of(seed, label)) for seed in (0, 1) for label in (0, 1, 1282)}
    assert len({tuple(values.tolist()) for values in draws.values()}) == 6
    assert torch.equal(torch.rand(4, generator=draws_of(1, 1282)), draws[1, 1282])


def test_a_class_is_never_shown_images_that_are_its_own() -> None:
    predictions, labels = torch.tensor([0, 0, 0, 1, 2, 0]), torch.tensor([0, 1, 5])
    drawn = draw_others(predictions, labels, 4, draws_of(0, 0))
    order = torch.randperm(6, generator=draws_of(0, 0)).tolist()
    assert drawn[2].tolist() == order[:4]  # nobody is a 5: the first four of the one order
    assert drawn[1].tolist() == [place for place in order if place != 3][:4]
    others = [place for place in order if predictions[place] != 0]
    assert drawn[0].tolist() == [*others, *others]  # two are left, each comes twice


def test_where_all_images_are_of_the_class_any_is_drawn() -> None:
    drawn = draw_others(torch.zeros(5, dtype=torch.int64), torch.tensor([0]), 5, draws_of(0, 0))
    assert sorted(drawn[0].tolist()) == [0, 1, 2, 3, 4]


def test_each_aim_draws_from_what_it_is_allowed() -> None:
    allowed = torch.tensor([[True, False, True, True], [False, True, False, False]])
    drawn = draw_from(allowed, 3, draws_of(0, 0))
    order = torch.randperm(4, generator=draws_of(0, 0)).tolist()
    assert drawn[0].tolist() == [place for place in order if place != 1]
    assert drawn[1].tolist() == [1, 1, 1]
