from benchmarks.encoders import Options, main
from ngopt.encoders import ENCODERS


def test_a_line_for_each_encoder(capsys):
    main(Options(batch=2, repeats=1))
    _, _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines] == list(ENCODERS)
    assert all(int(line.split("|")[3].replace(",", "")) > 0 for line in lines)
