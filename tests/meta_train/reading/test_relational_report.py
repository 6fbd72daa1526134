import json

from scipy import stats

from meta_train.reading.relational_report import markdown, report
from meta_train.reading.relational_scores import sweet_spot
from tests.meta_train.reading.graphs_with_errors import POINTS, point


def test_with_one_seed_there_are_no_intervals():
    single = [point(p.name, p.clustering, p.path_length, p.test_errors[:1]) for p in POINTS]
    assert [found.name for found in sweet_spot(single)] == ["small_world"]
    text = markdown(single)
    assert "With one seed there are no intervals" in text
    assert "±" not in text


def test_intervals_are_those_of_students_t():
    text = markdown(POINTS)
    # Mean 33.325, standard deviation 0.171, 4 seeds: 3.182 * 0.171 / 2.
    assert "33.33 ± 0.27" in text or "33.32 ± 0.27" in text
    assert "| `lattice` |" in text
    complete, lattice = (p.test_errors for p in POINTS[:2])
    low, high = stats.ttest_ind(lattice, complete, equal_var=False).confidence_interval(0.95)
    assert f"[{low:+.2f}, {high:+.2f}]" in text


def test_files_hold_what_the_table_says(tmp_path):
    text = report(POINTS, {"out": tmp_path, "seeds": 4}, tmp_path)
    assert (tmp_path / "relational.md").read_text() in text
    content = json.loads((tmp_path / "relational.json").read_text())
    assert content["best"] == "small_world"
    assert [entry["name"] for entry in content["points"]] == [p.name for p in POINTS]
    assert (tmp_path / "map.png").stat().st_size > 10_000
    assert list((tmp_path / "board").iterdir())
