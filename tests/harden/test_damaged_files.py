"""Damaged files of every kind: read right, or refused in one line that names the file.

`make harden` runs these; HARDEN_SEED picks other damage, HARDEN_COUNT more of it for each reader.
"""

import os
import sys
import warnings

import pytest
from harden.cases import CASES, OBJ, archive, encoded, wav
from harden.child import answers
from harden.damage import some

SEED = int(os.environ.get("HARDEN_SEED", "0"))
COUNT = int(os.environ.get("HARDEN_COUNT", "50"))
OTHERS = (  # files of another kind
    *(encoded("PNG"), wav(), OBJ.encode(), b'{"a": 1}', b"\x80\x02N."),
    *(b"PK\x05\x06" + bytes(18), archive()),
)

pytestmark = [
    pytest.mark.harden,
    pytest.mark.skipif(sys.platform != "linux", reason="limits a fork's memory as Linux does"),
]


def outcome(case, path) -> str:
    """ "right", "refused", or what is wrong with how the reader took a file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.read(path)
        return "right"
    except (ValueError, OSError) as error:
        words = str(error)
        if "\n" in words or len(words) > 1000:
            return f"not one short line: {words[:300]!r}"
        if not any(name in words for name in (path.name, *case.named)):
            return f"no file named: {type(error).__name__}: {words}"
        return "refused"
    except AssertionError as error:
        return f"wrong answer: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_damaged_file_is_read_right_or_refused_by_name(case, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("GENTOK_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = case.write(tmp_path)
    whole = path.read_bytes()
    damage = some(whole, OTHERS, SEED, COUNT)

    def task(number: int) -> str:
        if number == 0:
            return outcome(case, path)  # as written
        path.write_bytes(damage[number - 1][1])
        return outcome(case, path)

    found = answers(task, len(damage) + 1)
    assert found[0] == "right", f"as written: {found[0]}"
    faults = [
        f"{name}: {answer}"
        for (name, _), answer in zip(damage, found[1:], strict=True)
        if answer not in ("right", "refused")
    ]
    assert not faults, f"{len(faults)} of {len(damage)}:\n" + "\n".join(faults)
    with capfd.disabled():
        print(f" {case.name}: {len(damage)} ({found.count('refused')} refused)", flush=True)


def test_there_are_a_thousand():
    assert len(CASES) * COUNT >= 1000
