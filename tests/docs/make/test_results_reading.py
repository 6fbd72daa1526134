import pytest

from docs.make.results_reading import make


def test_a_report_becomes_a_section_of_the_page(tmp_path):
    run, page = tmp_path / "probes", tmp_path / "page.md"
    run.mkdir()
    (run / "report.md").write_text("# Predict `class`\n\nText.\n\n## Differences\n\n| a |\n")
    page.write_text("## A question\n\n<!-- begin probes, by x -->\n<!-- end probes -->\n")
    make([str(run)], page)
    assert "x -->\n\nText.\n\n### Differences\n\n| a |\n\n<!-- end" in page.read_text()


def test_a_folder_without_a_report_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="there is no report"):
        make([str(tmp_path)], tmp_path / "page.md")
