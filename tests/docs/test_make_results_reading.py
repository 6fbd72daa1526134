import pytest

from docs.make_results_reading import page, section


def test_reports_become_sections(tmp_path):
    (tmp_path / "report.md").write_text("# Predict `class`\n\nText.\n\n## Differences\n\n| a |\n")
    whole = page([tmp_path])
    assert whole.startswith("# Results: networks that read networks\n")
    assert "\n## Predict `class`\n" in whole
    assert "\n### Differences\n" in whole


def test_a_folder_without_a_report_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="there is no report"):
        section(tmp_path)
