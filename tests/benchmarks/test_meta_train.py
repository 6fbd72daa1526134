import sys

from benchmarks import meta_train


def test_it_says_where_the_time_goes(monkeypatch, capsys):
    options = ["--families", "mlp:width=8,depth=1", "--pairs", "2", "--steps", "2", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["meta_train", *options])
    meta_train.main()
    row = capsys.readouterr().out.splitlines()[-1].split("|")
    name, runs, speed, *shares = (cell.strip() for cell in row[1:-1])
    assert (name, runs) == ("mlp:width=8,depth=1", "4")
    assert float(speed.replace(",", "")) > 0
    assert abs(sum(float(share[:-1]) for share in shares) - 100) <= 2  # rounded
    assert all(float(share[:-1]) > 0 for share in shares[:2])
