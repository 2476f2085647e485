"""Two machines with a disk each: they start, die, resume and refuse together."""

import os
import signal
from pathlib import Path

import pytest
import torch
from toy_machines import OUT, look, together, train, train_in_slices
from toy_training import same_run, train_blocks

from gentok.training import machines
from gentok.training.checkpoint import load_checkpoint, read_header


@pytest.fixture
def folders(tmp_path):
    """A disk for each of two machines."""
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
    return places


def weights(log):
    """What a process says of its weights."""
    return [line for line in log.splitlines() if line.startswith("weights")]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_one_machine_dies_the_other_ends_and_both_resume(folders, tmp_path, victim):
    whole = [tmp_path / "whole", tmp_path / "other"]
    for place in whole:
        place.mkdir()
    codes, logs = together(whole, train, 9)
    assert codes == [0, 0], logs
    codes, _ = together(folders, train, 9, False, victim, signal.SIGKILL)
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] == 3, "the other one ends, too"
    assert load_checkpoint(folders[0] / OUT)[1]["step"] == 3 and not (folders[1] / OUT).exists()
    codes, again = together(folders, train, 9, True)
    assert codes == [0, 0], again
    same_run(whole[0] / OUT, folders[0] / OUT)
    assert weights(again[0]) == weights(again[1]) == weights(logs[0]) != []
    assert sorted(os.listdir(folders[0])) == ["log", OUT.name]


@pytest.mark.slow
def test_a_damaged_checkpoint_stops_both_with_the_same_words(folders):
    (folders[0] / OUT).write_bytes(b"random")
    codes, logs = together(folders, train, 9, True)
    assert codes == [2, 2] and logs[0] == logs[1] and "damaged or of another kind" in logs[0]
    assert logs[0].count("\n") == 1


@pytest.mark.slow
def test_a_request_to_one_machine_stops_both_after_the_same_step(folders):
    codes, logs = together(folders, train, 9, False, 1, signal.SIGTERM)
    assert codes == [130, 130], logs
    assert load_checkpoint(folders[0] / OUT)[1]["step"] == 6


@pytest.mark.slow
def test_stages_need_a_folder_that_all_see(folders, tmp_path):
    codes, logs = together(folders, look, ".")
    assert codes == [2, 2] and "not every machine sees the same folder" in logs[1]
    codes, logs = together(folders, look, str(tmp_path))
    assert codes == [0, 0] and "went on" in logs[0]
    assert not list(tmp_path.glob(".gentok*"))


def test_alone_everything_is_agreed():
    assert machines.agreed(lambda: 3) == 3
    tensors = {"a": torch.ones(2)}
    assert machines.from_first(tensors, torch.device("cpu")) is tensors
    assert machines.any_of(True, torch.device("cpu"))
    machines.check_shared(Path("nowhere"), "alone")


@pytest.mark.slow
def test_slices_are_written_and_read_by_any_number_of_processes(tmp_path):
    """Two processes, then four, then one: the weights of a run that was never cut."""
    machines_of = {count: [tmp_path / f"{count}-{i}" for i in range(count)] for count in (2, 4)}
    for place in (place for places in machines_of.values() for place in places):
        place.mkdir()
    shared = tmp_path / "shared"
    shared.mkdir()
    codes, logs = together(machines_of[2], train_in_slices, str(shared), 3, False)
    assert codes == [0, 0], logs
    assert sorted(os.listdir(shared)) == [OUT.name, "run.slices-3"]
    sizes = [path.stat().st_size for path in (shared / "run.slices-3").iterdir()]
    assert len(sizes) == 2 and max(sizes) < 0.7 * sum(sizes), "each writes its own share"
    (shared / "run.slices-2").mkdir()  # of a save that was killed
    codes, logs = together(machines_of[4], train_in_slices, str(shared), 6, True)
    assert codes == [0] * 4, logs
    assert sorted(os.listdir(shared)) == [OUT.name, "run.slices-6"]
    one = tmp_path / "one.safetensors"
    train_blocks(one, 6)
    (sliced, meta), (whole, _) = load_checkpoint(shared / OUT), load_checkpoint(one)
    assert meta["step"] == 6 and len(meta["history"]) == 6 and sliced.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(sliced[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert read_header(shared / OUT)[0] == read_header(one)[0]
    train_blocks(shared / OUT, 8, resume=True)  # in one piece from here
    assert os.listdir(shared) == [OUT.name]


@pytest.mark.slow
def test_slices_that_were_changed_are_refused(tmp_path):
    places = [tmp_path / "a", tmp_path / "b"]
    for place in places:
        place.mkdir()
    codes, logs = together(places, train_in_slices, str(tmp_path), 3, False)
    assert codes == [0, 0], logs
    spoilt = sorted((tmp_path / "run.slices-3").iterdir())[1]
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="is not what it was"):
        load_checkpoint(tmp_path / OUT)
    codes, logs = together(places, train_in_slices, str(tmp_path), 6, True)
    assert codes == [2, 2] and "is not what it was" in logs[0] and "is not what it was" in logs[1]
