from meta_train.seeds import part_seed


def test_parts_of_neighbouring_seeds_share_nothing():
    found = {part_seed(seed, number) for seed in range(20) for number in range(20)}
    assert len(found) == 400


def test_seeds_stay_as_they_were():
    """What was made in part by an older ngopt goes on with the same numbers."""
    assert (part_seed(0, 0), part_seed(7, 5)) == (900450186894289455, 710123494352685591)
