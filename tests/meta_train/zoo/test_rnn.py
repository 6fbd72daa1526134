"""The command `zoo rnn`: labels, splits, training at once, resuming, and what is refused."""

from collections import Counter

import pytest
import torch
from torch.nn.functional import cross_entropy

from meta_train.cli import main, read
from meta_train.data.dataset import RawImages
from meta_train.errors import MetaTrainError
from meta_train.seeds import part_seed
from meta_train.zoo import rnn_problems
from meta_train.zoo.languages import Corpus, Language, languages, one_hot
from meta_train.zoo.languages import read as read_before
from meta_train.zoo.rnn import CHUNKS, assignment, rnn_chunk, run_rnn
from meta_train.zoo.rnn_options import RnnOptions
from meta_train.zoo.store import Zoo
from ngopt.encoders.recurrent import LSTMs
from tests.meta_train.zoo.tiny_rnn import tiny


def silent(text):
    """Show nothing."""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return run_rnn(tiny(tmp_path_factory.mktemp("rnn")), silent)


@pytest.fixture
def pictures(monkeypatch):
    """Noise in place of the digits."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (40, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (40,), generator=generator)
    raw = RawImages(images[:30], labels[:30], images[30:], labels[30:])
    for module in ("rnn_problems", "rnn"):
        monkeypatch.setattr(f"meta_train.zoo.{module}.digits", lambda: raw)
    return raw


def test_every_network_has_all_snapshots_in_order(zoo):
    assert len(zoo) == 16 * 3
    assert zoo.columns["run"].tolist() == [run for run in range(16) for _ in range(3)]
    assert zoo.columns["step"].tolist() == [0, 3, 6] * 16
    assert zoo.columns["snapshot"].tolist() == [0, 1, 2] * 16
    assert zoo.categories["snapshot"] == ("0", "3", "6")


def test_surpluses_are_those_of_the_task(zoo):
    spoken = languages(0, 1)
    for place in range(len(zoo)):
        language = spoken[int(zoo.columns["task"][place])]
        named = [int(zoo.categories[m][zoo.columns[m][place]]) for m in ("m1", "m2", "m3")]
        assert tuple(named) == language.surplus


def test_languages_have_equally_many_networks_and_one_split(zoo):
    tasks, splits = zoo.columns["task"], zoo.columns["split"]
    assert set(Counter(tasks[::3].tolist()).values()) == {2}
    assert len({(int(t), int(s)) for t, s in zip(tasks, splits, strict=True)}) == 8
    seen = set(tasks[zoo.split("train")].tolist())
    assert not seen & set(tasks[zoo.split("test")].tolist())


def test_training_lowers_the_loss_and_the_first_snapshot_is_untrained(zoo):
    loss = zoo.columns["loss"].view(16, 3)
    assert (loss[:, 2] < loss[:, 0]).all()
    bound = 3**-0.5
    (stack,) = zoo.networks(torch.arange(0, 48, 3))
    assert all(p.abs().max() <= bound for p in stack.parameters.values())


def test_the_loss_of_a_snapshot_is_that_of_its_network(zoo):
    place = 17
    (stack,) = zoo.networks(torch.tensor([place]))
    language = languages(0, 1)[int(zoo.columns["task"][place])]
    words = Corpus.of(languages(0, 1), 2).tokens[int(zoo.columns["task"][place])][:3]
    assert all(language.has(word) for word in words)
    answers = LSTMs.of(stack).run(one_hot(read_before(words))[None])[0]
    loss = cross_entropy(answers.flatten(0, 1), words.flatten())
    torch.testing.assert_close(loss, zoo.columns["loss"][place], rtol=1e-4, atol=1e-5)


def test_networks_learn_alone_what_they_learn_together(zoo, tmp_path):
    """A network trained by hand, step by step with torch's own AdamW, ends where its chunk did."""
    options = tiny(tmp_path)
    chunk = rnn_chunk(options, "cpu", 1)
    generator = torch.Generator().manual_seed(rnn_seed(options, 1))
    labels = assignment(options, torch.arange(6, 12))
    corpus = Corpus.of(languages(0, 1), 2)
    model = options.architecture.build()
    bound = options.hidden**-0.5
    drawn = {
        name: torch.empty(6, *p.shape).uniform_(-bound, bound, generator=generator)
        for name, p in model.named_parameters()
    }
    model.load_state_dict({name: tensor[4] for name, tensor in drawn.items()})
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=1e-4)
    words = corpus.tokens[labels["task"][4]]
    for step in range(6):
        shares = corpus.shares(labels["task"], options.batch, generator)[4]
        optimizer.param_groups[0]["lr"] = 0.01 if step < 3 else 0.003
        answers = model(one_hot(read_before(words)))
        each = cross_entropy(answers.flatten(0, 1), words.flatten(), reduction="none")
        optimizer.zero_grad()
        (each.view(words.shape).mean(1) * shares).sum().backward()
        optimizer.step()
    (part,) = chunk.parts
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(part.tensors[name][4 * 3 + 2], parameter, rtol=1e-4, atol=1e-5)


def rnn_seed(options, number):
    return part_seed(options.seed, CHUNKS + number)


def test_a_killed_zoo_goes_on_and_is_the_same(zoo, tmp_path, monkeypatch):
    made = []

    def killed(options, device, number):
        made.append(number)
        if len(made) == 2:
            raise KeyboardInterrupt
        return rnn_chunk(options, device, number)

    monkeypatch.setattr("meta_train.zoo.rnn.rnn_chunk", killed)
    with pytest.raises(KeyboardInterrupt):
        run_rnn(tiny(tmp_path), silent)
    again = run_rnn(tiny(tmp_path), silent)
    assert len(made) == 2 + 2  # three chunks, of which one was there
    for name, column in zoo.columns.items():
        assert torch.equal(again.columns[name], column), name
    ours, theirs = zoo.stacks[0].parameters, again.stacks[0].parameters
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_what_a_network_learns_does_not_depend_on_the_chunks(tmp_path):
    runs = torch.arange(4, 9)
    whole = assignment(tiny(tmp_path), torch.arange(16))
    some = assignment(tiny(tmp_path, chunk=3), runs)
    assert all(torch.equal(column, whole[name][runs]) for name, column in some.items())


def test_diverged_networks_are_left_out(tmp_path, monkeypatch):
    losses = rnn_problems.Speaking.losses

    def broken(self, networks):
        found = losses(self, networks)
        return found * torch.where(torch.arange(len(found)) == 2, torch.nan, 1.0)

    monkeypatch.setattr(rnn_problems.Speaking, "losses", broken)
    zoo = run_rnn(tiny(tmp_path), silent)
    assert zoo.dropped == 3
    assert set(zoo.columns["run"].tolist()) == set(range(16)) - {2, 8, 14}


def test_digits_have_angles_and_gaps(pictures, tmp_path):
    zoo = run_rnn(tiny(tmp_path, task="digits", networks=8, chunk=4), silent)
    columns = zoo.columns
    turn = torch.deg2rad(columns["angle"])
    torch.testing.assert_close(columns["angle_cos"], turn.cos())
    torch.testing.assert_close(columns["angle_sin"], turn.sin())
    torch.testing.assert_close(columns["gap"], columns["loss"] - columns["train_loss"])
    assert len(columns["angle"].unique()) == 8
    assert ((columns["accuracy"] >= 0) & (columns["accuracy"] <= 1)).all()
    first = columns["train_loss"].view(8, 3)
    assert first[:, 2].mean() < first[:, 0].mean()
    assert (
        zoo.networks(torch.tensor([0])).stacks[0].parameters["lstm.weight_ih_l0"].shape[-1] == 196
    )


def test_digits_without_files_begin_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("NGOPT_DATA", str(tmp_path / "data"))
    with pytest.raises(MetaTrainError, match="there is no file"):
        run_rnn(tiny(tmp_path / "zoo", task="digits"), silent)
    assert not (tmp_path / "zoo").exists()


def test_the_full_scale_is_the_published_one(tmp_path):
    full = tiny(tmp_path, scale="full").scaled
    assert (full.networks, full.hidden, full.longest, full.surplus) == (1000, 32, 9, (-3, 2))
    assert len(full.snapshots) == 9
    assert full.plain() == RnnOptions(**{**full.plain(), "folder": tmp_path / "other"}).plain()


@pytest.mark.parametrize(
    "wrong",
    [
        {"networks": 0},
        {"snapshots": ()},
        {"snapshots": (3, 0)},
        {"snapshots": (0, 7)},
        {"surplus": (1, 0)},
        {"tile": 5},
        {"lr": 0.0},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong, tmp_path):
    with pytest.raises(MetaTrainError, match="cannot make"):
        tiny(tmp_path, **wrong)


def test_a_folder_with_another_zoo_is_refused(zoo):
    with pytest.raises(MetaTrainError, match="hidden is 3, not 4"):
        run_rnn(tiny(zoo.folder, hidden=4), silent)
    assert len(Zoo.open(zoo.folder)) == 48


def test_the_command_reads_options(tmp_path, zoo):
    chosen = read(["zoo", "rnn", "--task", "digits", "--surplus", "-1", "2"]).zoo
    assert (chosen.task, chosen.surplus) == ("digits", (-1, 2))
    with pytest.raises(SystemExit, match="another zoo"):
        main(["zoo", "rnn", "--folder", str(zoo.folder), "--device", "cpu"])


def test_a_language_that_is_all_surplus_has_words():
    assert Language((-3, -3, -3)).words(9)
