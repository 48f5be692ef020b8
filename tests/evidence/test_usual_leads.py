import pytest

from goodnet.evidence.judgement import BLEND, MARGIN, PAIR, PATCH, SIZE, SQUARE, TOGETHER
from goodnet.evidence.usual_leads import GROUPS, USUAL_LEADS, Usual, group_of


@pytest.mark.parametrize(("classes", "group"), [(2, 0), (20, 0), (21, 1), (99, 1), (100, 2), (1283, 2)])
def test_networks_are_grouped_by_their_classes(classes, group):
    assert group_of(classes) == group
    assert Usual((1.0, 2.0, 3.0), relative=True, networks=(4, 4, 4)).mean(classes) == group + 1


def test_the_table_has_a_positive_mean_for_each_kind_and_group():
    assert set(USUAL_LEADS) == {MARGIN, BLEND, SIZE, PATCH, SQUARE, PAIR, TOGETHER}
    for usual in USUAL_LEADS.values():
        assert len(usual.means) == len(usual.networks) == len(GROUPS) + 1
        assert min(usual.means) > 0
    assert USUAL_LEADS[SIZE].networks[0] >= 10
