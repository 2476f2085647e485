"""The alphabet and the windows of a text."""

import pytest
import torch

from gentok.data import characters as ch


def test_round_trip_and_unknown_characters():
    assert len(ch.ALPHABET) == 96
    ids = ch.to_ids(ch.ALPHABET)
    assert ids.tolist() == list(range(96)) and ch.to_text(ids) == ch.ALPHABET
    assert ch.to_text(ch.to_ids("naïve\tß")) == "na?ve??"


def test_split_is_disjoint_and_complete():
    ids = torch.arange(1000)
    train, test = ch.split_text(ids, piece=10)
    assert len(test) == 100 and torch.equal(torch.cat([train, test]).sort().values, ids)
    with pytest.raises(ValueError, match="at least 10 pieces"):
        ch.split_text(ids[:50], piece=10)


def test_windows_are_pieces_of_the_text_spread_over_it():
    ids = torch.arange(1003)
    table = ch.windows(ids, 10, 4)
    assert table.shape == (4, 10) and (table.diff(dim=1) == 1).all()
    assert table[0, 0] == 0 and table[-1, -1] == 999
    assert ch.windows(ids, 10).shape == (100, 10)
    with pytest.raises(ValueError, match="hold 100 windows of 10, asked 101"):
        ch.windows(ids, 10, 101)


def test_batches_follow_from_the_step_and_reach_both_ends():
    ids = torch.arange(20)
    draw = ch.window_batches(ids, 8, 4, seed=3)
    assert torch.equal(draw(5)["tokens"], draw(5)["tokens"])
    assert not torch.equal(draw(5)["tokens"], draw(6)["tokens"])
    tokens = torch.cat([draw(step)["tokens"] for step in range(60)])
    assert tokens.dtype == torch.int64 and (tokens.diff(dim=1) == 1).all()
    assert int(tokens.min()) == 0 and int(tokens.max()) == 19
    numpy = ch.window_batches(ids.numpy(), 8, 4, seed=3)
    assert torch.equal(numpy(5)["tokens"], draw(5)["tokens"])
    with pytest.raises(ValueError, match="need 8 ids"):
        ch.window_batches(ids[:7], 8, 4)
