import random

from ngopt.rules.cohorts import Cohorts


def test_those_found_make_up_what_came():
    cohorts, drawn = Cohorts(), random.Random(0)
    for _ in range(50):
        names = drawn.sample(range(20), drawn.randrange(1, 20))
        found = cohorts.of(names)
        assert sorted(name for cohort in found for name in cohort) == sorted(names)


def test_what_always_comes_together_stays_together_and_soon_nothing_is_new():
    cohorts, drawn, kinds = Cohorts(), random.Random(0), []
    experts = [tuple((n, part) for part in "abc") for n in range(8)]
    for _ in range(40):
        chosen = drawn.sample(experts, 4)
        kinds.append(set(cohorts.of(name for expert in chosen for name in expert)))
    assert set().union(*kinds[20:]) == set(experts)
