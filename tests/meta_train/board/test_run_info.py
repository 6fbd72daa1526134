import json
import sys

from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from meta_train.board.cards import META_LOSS
from meta_train.board.run_info import hyper_parameters
from meta_train.outer import OuterOptions
from ngopt.rules.library import fingerprint
from tests.meta_train.board.event_files import TINY, events, go_on, quiet, scalars, trainer


def text(loaded, tag, place=-1):
    return loaded.Tensors(f"{tag}/text_summary")[place].tensor_proto.string_val[0].decode()


def hparams(loaded, tag):
    content = loaded.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content
    return HParamsPluginData.FromString(content)


def test_texts_tell_what_the_run_is(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["meta_train", "--families", "mlp|quadratic"])
    run = trainer(tmp_path, board=quiet())
    theta = fingerprint(run.rule.state_dict())
    go_on(run)
    loaded = events(tmp_path)
    assert text(loaded, "command") == "    meta_train --families 'mlp|quadratic'"
    config = json.loads(text(loaded, "config"))
    assert (config["truncation"], config["outer"]["beta1"]) == (2, 0.9)
    card = text(loaded, "rule")
    assert theta in card
    assert f"| {sum(p.numel() for p in run.rule.parameters()):,} |" in card
    assert '"rounds": 1' in card


def test_a_resumed_run_tells_it_again(tmp_path):
    run = trainer(tmp_path, board=quiet())
    go_on(run, until=2)
    again = trainer(tmp_path, board=quiet(), steps=6)
    again.load_state_dict(run.state_dict())
    go_on(again)
    loaded = events(tmp_path)
    told = [json.loads(text(loaded, "config", place))["steps"] for place in (0, 1)]
    assert told == [4, 6]
    assert [point.step for point in loaded.Tensors("config/text_summary")] == [0, 2]


def test_hyper_parameters_are_flat_and_leave_out_what_makes_no_difference():
    config = TINY.__class__(outer=OuterOptions(lr=0.01), families=("mlp", "quadratic"))
    found = hyper_parameters(config)
    assert found["outer.lr"] == 0.01
    assert found["families"] == "mlp; quadratic"
    assert {type(value) for value in found.values()} <= {int, float, str, bool}
    assert not {"folder", "device", "board.every"} & found.keys()
    columns = list(found)
    first = min(place for place, name in enumerate(columns) if name.startswith("augment."))
    assert all(name.startswith("augment.") for name in columns[first:])


def test_runs_can_be_compared_by_their_hyper_parameters(tmp_path):
    run = trainer(tmp_path, board=quiet())
    go_on(run, until=3)
    loaded = events(tmp_path)
    values = hparams(loaded, "session_start_info").session_start_info.hparams
    assert values["truncation"].number_value == 2
    assert values["rule"].string_value == TINY.rule
    experiment = hparams(loaded, "experiment").experiment
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics == [META_LOSS]
    assert set(metrics) <= scalars(tmp_path).keys()
    assert "_hparams_/session_end_info" not in loaded.Tags()["tensors"]
    assert {info.name for info in experiment.hparam_infos} == set(hyper_parameters(run.config))


def test_the_last_step_ends_the_session(tmp_path):
    go_on(trainer(tmp_path, board=quiet()))
    loaded = events(tmp_path)
    assert hparams(loaded, "session_end_info").session_end_info.status == 1  # success
