"""Formal languages: their words, who belongs to them, batches of words, and writing."""

import pytest
import torch

import ngopt
from meta_train.errors import MetaTrainError
from meta_train.zoo.languages import (
    BEGIN,
    END,
    TOKENS,
    Corpus,
    Language,
    before_end,
    languages,
    one_hot,
    read,
    speak,
)
from meta_train.zoo.networks import LSTMReader
from ngopt.encoders.networks import Stack
from ngopt.encoders.recurrent import LSTMs


def spelled(word):
    return "".join("abcd"[letter] for letter in word.tolist())


def written(text, length=12):
    """A sequence that ends after the text, then goes on with anything."""
    letters = ["abcd>.".index(letter) for letter in text]
    return torch.tensor([*letters, *[1, 3, 0] * length][:length])


def test_words_have_their_letters_in_order_and_number():
    assert spelled(Language((1, 0, -1)).word(2)) == "aabbbccd"
    assert [spelled(word) for word in Language((0, 2, -1)).words(2)] == ["abccc", "aabbccccd"]


def test_the_first_word_is_the_shortest_that_exists():
    assert Language((0, 0, 0)).least == 0
    assert Language((-2, 1, -1)).least == 2
    assert spelled(Language((-2, 1, -1)).word(2)) == "aacccd"


def test_there_are_as_many_languages_as_surpluses():
    spoken = languages(-3, 2)
    assert len(set(spoken)) == 216
    assert {m for language in spoken for m in language.surplus} == set(range(-3, 3))


@pytest.mark.parametrize("language", languages(-1, 1), ids=lambda language: str(language.surplus))
def test_a_language_has_its_words_and_no_other(language):
    for other in languages(-1, 1):
        for word in other.words(3):
            tokens = torch.cat([word, torch.tensor([END, 2])])
            assert bool(language.has(tokens)) == (other == language)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("aabbbccd.", True),
        ("ababbccd.", False),  # right counts in another order
        ("bbbaaccd.", False),
        ("aabbbccd", False),  # no end within the sequence
        ("aabbccd.", False),
        ("aabbb>ccd.", False),  # a second beginning
        (".", False),
    ],
)
def test_order_counts_and_end_decide(text, right):
    length = 12 if "." in text else len(text)
    assert bool(Language((1, 0, -1)).has(written(text, length))) == right


def test_the_empty_word_is_a_word_where_no_letter_is_more_frequent():
    assert bool(Language((0, 0, 0)).has(written(".")))
    assert not bool(Language((0, 1, 0)).has(written(".")))


def test_many_sequences_are_judged_as_one_by_one():
    tokens = torch.randint(TOKENS, (3, 50, 4))
    tokens[0, 0] = torch.tensor([END, 0, 0, 0])
    together = Language((0, 0, 0)).has(tokens)
    assert together.shape == (3, 50)
    assert together.tolist() == [
        [bool(Language((0, 0, 0)).has(one)) for one in row] for row in tokens
    ]
    assert together.any()


def test_what_stands_before_the_end():
    tokens = torch.tensor([[0, END, 1, END], [0, 1, 2, 3]])
    assert before_end(tokens).tolist() == [[True, False, False, False], [True] * 4]


def test_a_corpus_has_every_word_and_room_for_the_end_of_the_longest():
    spoken = languages(-1, 1)
    corpus = Corpus.of(spoken, 3)
    assert corpus.tokens.shape[-1] == 3 * 4 + 3 + 1
    assert (corpus.tokens[..., -1] == END).all()
    for language, rows, count in zip(spoken, corpus.tokens, corpus.words.tolist(), strict=True):
        assert count == len(language.words(3))
        assert all(language.has(row) for row in rows[:count])
        assert (rows[count:] == END).all()


def test_a_language_without_words_is_refused():
    with pytest.raises(MetaTrainError, match="no word with up to 1 times a"):
        Corpus.of([Language((-2, 0, 0))], 1)


def test_shares_are_those_of_words_that_are_drawn():
    corpus = Corpus.of([Language((0, 0, 0)), Language((-2, 0, 0))], 3)
    chosen = torch.tensor([0, 1, 1])
    shares = corpus.shares(chosen, 1000, torch.Generator().manual_seed(0))
    assert torch.allclose(shares.sum(1), torch.ones(3))
    assert not torch.equal(shares[1], shares[2])
    for row, number in zip(shares, chosen, strict=True):
        words = int(corpus.words[number])
        assert (row[:words] - 1 / words).abs().max() < 0.06
        assert not row[words:].any()


def test_a_network_reads_what_comes_before_what_it_predicts():
    tokens = torch.tensor([[2, 0, END, END]])
    assert read(tokens).tolist() == [[BEGIN, 2, 0, END]]
    assert one_hot(read(tokens)).sum(-1).eq(1).all()


def speakers(count):
    model = LSTMReader(TOKENS, 4, 1, TOKENS)
    parameters = {n: torch.randn(count, *p.shape) for n, p in model.named_parameters()}
    return LSTMs.of(Stack(ngopt.trace(model, *model.inputs()), parameters, model))


def test_predictions_are_those_for_what_was_written():
    networks = speakers(3)
    tokens, predictions = speak(networks, 2, 5, torch.Generator().manual_seed(0))
    again = networks.run(one_hot(read(tokens))).log_softmax(-1)
    torch.testing.assert_close(predictions, again)
    same, _ = speak(networks, 2, 5, torch.Generator().manual_seed(0))
    assert torch.equal(tokens, same)


def test_tokens_come_as_often_as_they_are_predicted():
    tokens, predictions = speak(speakers(2), 4000, 1, torch.Generator().manual_seed(0))
    counted = one_hot(tokens[:, :, 0]).mean(1)
    assert (counted - predictions[:, 0, 0].exp()).abs().max() < 0.04
