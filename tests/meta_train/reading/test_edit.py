"""The command `edit`, from a zoo to edited images."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from meta_train.errors import MetaTrainError
from meta_train.reading.edit import EditOptions, baselines, check, run_edit
from meta_train.reading.editor import Editing, Editor
from meta_train.reading.filters import dilate
from meta_train.reading.options import FitOptions
from meta_train.zoo.siren import render
from tests.meta_train.reading.tiny import Moments

FIT = FitOptions(epochs=3, batch=10, evaluations=2, lr=0.01, clip=1.0, device="cpu")


@pytest.fixture(scope="module")
def done(zoo, tmp_path_factory):
    out = tmp_path_factory.mktemp("edit")
    chosen = EditOptions(
        zoo.folder, "dilate", ("moments",), seeds=(0, 1), out=out, resamples=50, fit=FIT
    )
    return out, run_edit(chosen, lambda text: None)


def test_an_editor_begins_close_to_the_networks_as_they_are(zoo):
    networks = zoo.networks(torch.arange(4))
    editor = Editor(Moments(networks))
    edited = editor(networks)
    for name, before in networks.stacks[0].parameters.items():
        change = edited.stacks[0].parameters[name] - before
        assert 0 < change.abs().max() < 0.05 * (before.abs().max() + 1)
    with torch.no_grad():
        editor.encoder.entry.zero_()
    assert torch.equal(render(editor(networks), 8), render(networks, 8))


def test_the_identity_and_the_edited_image_stand_beside_editors(zoo, done):
    _, table = done
    assert [row.reader for row in table.rows] == ["identity", "edited as images", "moments"]
    test = zoo.split("test")
    images = zoo.examples["images"][test].float() / 255
    shown = render(zoo.networks(test), 8)
    for row, edited in zip(table.rows, (shown, dilate(shown)), strict=False):
        error = float((edited - dilate(images)).square().mean())
        assert row.test["squared error"].value == pytest.approx(error, rel=1e-5)


def test_training_lowers_the_error(done):
    out, _ = done
    result = json.loads((out / "moments" / "seed-0" / "result.json").read_text())["result"]
    errors = [entry["validation"]["squared error"] for entry in result["history"]]
    assert min(errors) < errors[0]


def test_edited_images_are_drawn(done):
    out, _ = done
    assert (out / "edits.png").stat().st_size > 1000
    assert (out / "report.md").read_text().startswith("# Edit images: dilate")


def test_targets_are_edited_originals_not_edited_decodings(zoo):
    editing = Editing(zoo, dilate)
    index = torch.tensor([3, 1])
    images = zoo.examples["images"][index].float() / 255
    assert torch.equal(editing.targets(index), dilate(images))
    assert [result.reader for result in baselines(zoo, dilate)] == ["identity", "edited as images"]


def test_an_encoder_that_tells_nothing_of_weights_cannot_edit():
    class Blind(nn.Module):
        width = 3

    with pytest.raises(MetaTrainError, match="Blind has no outputs for weights"):
        Editor(Blind())


def test_networks_that_are_no_images_are_refused(zoo):
    other = replace(zoo, examples={})
    with pytest.raises(MetaTrainError, match="they are no images"):
        check(other)
