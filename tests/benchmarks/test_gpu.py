import json
from dataclasses import replace

import pytest
import torch

from benchmarks import gpu, gpu_meta_train
from meta_train.presets import PRESETS
from ngopt import load_rule


def test_parts_are_measured_once(tmp_path, monkeypatch):
    names = "steps", "captured", "orthogonalization", "kernels", "tiles"
    parts = {name: gpu.PARTS[name] for name in names}
    monkeypatch.setattr(gpu, "PARTS", parts)
    arguments = ["gpu", "--device", "cpu", "--tiny", "--out", str(tmp_path)]
    arguments += ["--parts", *parts]
    monkeypatch.setattr("sys.argv", arguments)
    gpu.main()
    found = json.loads((tmp_path / "steps.json").read_text())
    assert found["card"] == "cpu"
    rows = found["found"]
    assert len(rows) == len(gpu.TINY_CASES) * len(gpu.OPTIMIZERS)
    assert all(row["step"] > 0 for row in rows.values())
    assert "aten::" in json.loads((tmp_path / "kernels.json").read_text())["found"]
    replayed = json.loads((tmp_path / "captured.json").read_text())["found"]
    assert len(replayed) == len(gpu.TINY_CASES) * len(gpu.CAPTURABLE)
    assert all(row["replayed"] > 0 for row in replayed.values())
    precise = json.loads((tmp_path / "orthogonalization.json").read_text())["found"]
    assert [set(row) for row in precise.values()] == [{"half", "single"}]
    by_tile = json.loads((tmp_path / "tiles.json").read_text())["found"]
    assert len(by_tile) == 3
    assert all(row["median"] > 0 for row in by_tile.values())
    (tmp_path / "steps.json").write_text("{}")
    gpu.main()
    assert (tmp_path / "steps.json").read_text() == "{}"


def test_agreement_tells_how_far_weights_are_apart(monkeypatch):
    found = gpu.agreement("cpu", tiny=True)
    assert len(found) == 4
    assert set(found.values()) == {0.0}
    results = iter([torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])] * 4)
    monkeypatch.setattr(gpu, "trained", lambda *given: next(results))
    assert list(gpu.agreement("cpu", tiny=True).values()) == pytest.approx([0.1] * 4)


def test_meta_training_ends_with_the_time_and_leaves_a_rule(tmp_path):
    options = gpu_meta_train.tiny(PRESETS["at_scale"])
    config = replace(options, device="cpu", folder=tmp_path)
    trainer = gpu_meta_train.run(config, 0.5)
    lines = (tmp_path / "curve.jsonl").read_text().splitlines()
    assert len(lines) == trainer.step_number >= 1
    assert json.loads(lines[-1])["in_all"] == trainer.inner_steps == len(lines) * 2 * 4 * 4
    saved = load_rule(tmp_path / "rule.safetensors")
    torch.testing.assert_close(saved.state_dict(), trainer.rule.state_dict())
