"""Claims and gates as they are written down, and what rows say about them."""

import json

import pytest

from gentok.book.claims import judge, read_plan
from gentok.book.ledger import Ledger
from gentok.book.records import checkout, plan_of, read_record, results_folder

CLAIM = """
[[claim]]
id = "C1"
sentence = "a is below b"
kind = "arms"
experiment = "losses"
metric = "mse"
system = "a"
baseline = "b"
direction = "lower"
smallest = 0.2
reason = "a tenth of the spread"
planned = true
"""
GATE = """
[[gate]]
id = "trained"
experiment = "losses"
metric = "mse"
arm = "b"
at_most = 3.4
"""
ROWS = [
    {"variant": arm, "seed": seed, "mse": mse, "curve": [mse, 2.0], "late": mse - 1}
    for arm, values in {"a": [1.0, 2.0, 1.5], "b": [3.0, 3.5, 3.2]}.items()
    for seed, mse in enumerate(values)
]


def plan(tmp_path, text):
    path = tmp_path / "fa_vae.claims.toml"
    path.write_text(text)
    return read_plan(path)


def judged(tmp_path, text, rows=ROWS):
    found = plan(tmp_path, text)
    return judge(found.claims[0], found, rows)


def test_a_claim_is_judged_by_rows(tmp_path):
    found = judged(tmp_path, CLAIM)
    assert found["verdict"] == "reproduced" and found["seeds"] == [0, 1, 2]
    assert found["system"] == {"name": "a", "values": [1.0, 2.0, 1.5]}
    assert found["effect"] == pytest.approx(1.5 - 9.7 / 3)
    assert found["reads"] == "a < b" and found["smallest"] == 0.2 and found["margin"] is None
    assert judged(tmp_path, CLAIM, None)["verdict"] == "not measured"


def test_rows_are_paired_by_seed_and_not_by_place(tmp_path):
    shuffled = [ROWS[i] for i in (2, 0, 1, 4, 3, 5)]
    assert judged(tmp_path, CLAIM, shuffled) == judged(tmp_path, CLAIM)


@pytest.mark.parametrize(
    ("side", "values"),
    [
        ('{ arm = "a", metric = "late" }', [0.0, 1.0, 0.5]),
        ('{ arm = "a", minus = { arm = "b", metric = "late" } }', [-1.0, -0.5, -0.7]),
        ('{ arm = "a", metric = "curve", weights = [1, 3] }', [1.75, 2.0, 1.875]),
    ],
)
def test_a_side_may_be_another_metric_a_difference_or_a_mean(tmp_path, side, values):
    text = CLAIM.replace('system = "a"', f"system = {side}")
    assert judged(tmp_path, text)["system"]["values"] == pytest.approx(values)


def test_a_failed_gate_makes_a_claim_not_testable(tmp_path):
    asks = CLAIM + 'gates = ["trained"]\n'
    found = judged(tmp_path, GATE + asks)
    assert found["verdict"] == "not testable here" and found["failed_gates"] == ["trained"]
    assert found["effect"] is None and found["p"] is None
    assert judged(tmp_path, GATE.replace("3.4", "3.5") + asks)["verdict"] == "reproduced"
    assert judged(tmp_path, GATE.replace("at_most = 3.4", "at_least = 3.0") + asks)["p"] < 0.05
    assert judged(tmp_path, GATE + CLAIM)["verdict"] == "reproduced", "the gate is not its own"
    lost = [row | {"mse": None} if row["variant"] == "b" else row for row in ROWS]
    gate = plan(tmp_path, GATE).gates[0].check(lost)
    assert gate["passed"] is False and gate["worst"] is None


def test_a_claim_within_models_is_judged_over_items(tmp_path):
    side = '{{ arm = "a", metric = "{}" }}'
    text = CLAIM.replace('"arms"', '"within"')
    text = text.replace('system = "a"', "system = " + side.format("right"))
    text = text.replace('baseline = "b"', "baseline = " + side.format("wrong"))
    rows = [
        {
            "variant": "a",
            "seed": s,
            "right": [1.0, 2.0, 3.0, 4.5],
            "wrong": [2.0 + s, 4.0, 4.0, 6.0],
        }
        for s in range(3)
    ]
    found = judged(tmp_path, text, rows)
    assert found["pairs"] == 4 and found["effect"] == pytest.approx(-(2 + 2 + 1 + 1.5) / 4)
    assert found["reads"] == "right < wrong"
    with pytest.raises(ValueError, match="at least three models"):
        judged(tmp_path, text, rows[:2])


def test_an_identity_holds_to_the_last_digit_or_by_a_test(tmp_path):
    text = CLAIM.replace('"arms"', '"identity"').replace('"lower"', '"equal"')
    text = text.replace("smallest = 0.2", "").replace("planned = true", "")
    assert judged(tmp_path, text)["verdict"] == "broken"
    same = [row | {"mse": 1.0} for row in ROWS]
    found = judged(tmp_path, text, same)
    assert (found["verdict"], found["ci95"], found["p"]) == ("holds", None, None)
    same[0]["mse"] += 1e-12
    assert judged(tmp_path, text, same)["verdict"] == "broken"
    tested = (
        '[[claim]]\nid = "C2"\nsentence = "s"\nkind = "identity"\ntest = "tests/a.py::test_b"\n'
    )
    assert judged(tmp_path, tested, None)["verdict"] == "holds"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('id = "C1"\n', ""), "an entry without id"),
        (('direction = "lower"\n', ""), "C1: lacks 'direction'"),
        (("planned = true\n", ""), "C1: lacks 'planned'"),
        (("smallest = 0.2\n", ""), "C1: lacks 'smallest'"),
        (('"lower"', '"less"'), "C1: direction must be one of"),
        (('"lower"', '"no worse"'), "C1: better"),
        (('"arms"', '"guess"'), "C1: kind must be one of"),
        (("reason", "reasons"), "C1: unknown fields"),
        (("[[claim]]", "[[claims]]"), "unknown tables"),
        (("[[claim]]", "[[claim]"), "fa_vae"),
        (("planned = true", 'planned = true\ngates = ["x"]'), "unknown gates"),
        (("\n[[claim]]", CLAIM + "[[claim]]"), "claim 'C1' stands twice"),
        (('id = "C1"', "id = 1"), "id cannot be 1"),
        (('"a is below b"', '["a"]'), "C1: sentence cannot be"),
        (("smallest = 0.2", "smallest = nan"), "C1: smallest cannot be nan"),
        (("smallest = 0.2", 'smallest = "some"'), "C1: smallest cannot be 'some'"),
        (("planned = true", 'planned = "yes"'), "C1: planned cannot be"),
        (("planned = true", 'planned = true\ngates = "x"'), "C1: gates cannot be"),
        (('"b"', "{ metric = 3, arm = 'b' }"), "C1: metric cannot be 3"),
        (('"b"', "{ arm = 'b', weights = ['x'] }"), "C1: weights cannot be"),
        (("\n[[claim]]", "claim = 3\n[[claims]]"), "unknown tables|must be tables"),
        (("planned = true", f"note = {'[' * 3000}"), "fa_vae"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as error:
        plan(tmp_path, CLAIM.replace(*change, 1))
    assert "fa_vae.claims.toml" in str(error.value)


def test_a_gate_has_one_limit(tmp_path):
    with pytest.raises(ValueError, match="trained: a gate has either at_most or at_least"):
        plan(tmp_path, GATE.replace("at_most = 3.4", ""))


def test_what_the_rows_lack_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"unknown arm 'c'; the rows have \['a', 'b'\]"):
        judged(tmp_path, CLAIM.replace('"b"', '"c"'))
    with pytest.raises(ValueError, match=r"unknown metric 'fid'; the rows have \['mse', 'curve'"):
        judged(tmp_path, CLAIM.replace('"mse"', '"fid"'))
    with pytest.raises(ValueError, match=r"C1: seeds differ: a \[0, 1, 2\], b \[0, 1\]"):
        judged(tmp_path, CLAIM, ROWS[:5])


def test_no_claims_yet_is_an_empty_plan(tmp_path):
    assert read_plan(tmp_path / "none.claims.toml").claims == ()


def experiment(rows, **changes):
    made = {"ended": "2026-01-01T00:00:00Z", "machine": {}, "versions": {}, "code": "0"}
    return {
        "made": made, "seconds": 1.0, "seeds": [0, 1, 2], "arms": None, "gates": [],
        "rows": rows, "renewals": [], **changes,
    }  # fmt: skip


def ledger(tmp_path, text, rows=ROWS):
    record = {"system": "fa_vae", "experiments": {"losses": experiment(rows)}}
    (tmp_path / "fa_vae.json").write_text(json.dumps(record))
    (tmp_path / "fa_vae.claims.toml").write_text(text)
    return Ledger(tmp_path)


def test_the_ledger_counts_planned_found_and_identities_apart(tmp_path):
    found = CLAIM.replace('"C1"', '"C2"').replace("true", "false")
    identity = CLAIM.replace('"C1"', '"C3"').replace('"arms"', '"identity"')
    gated = CLAIM.replace('"C1"', '"C4"') + 'gates = ["trained"]\n'
    book = ledger(tmp_path, GATE + CLAIM + found + identity + gated)
    counted = book.summary()
    assert counted["planned"] == {"reproduced": 1, "not testable here": 1}
    assert counted["found"] == {"reproduced": 1} and counted["identities"] == {"holds": 1}
    assert counted["failed_gates"] == 1 and counted["decided"] == 1
    corrected = {claim["id"]: claim["p_holm"] for claim in book.claims()}
    assert corrected["C1"] is not None
    assert [corrected[id] for id in ("C2", "C3", "C4")] == [None, None, None]
    assert "2 planned claims: 1 not testable here, 1 reproduced." in book.sentence()
    assert book.table()["verdict"].tolist()[1] == "reproduced; found"
    # a record of a chapter that is in this tree, but made by other code
    assert all(claim["stale"] for claim in book.claims())


def test_correction_is_holms_and_benjamini_hochbergs(tmp_path):
    rows, text, shifts = list(ROWS), "", [0.1, 0.6, 1.0, 2.0, 4.0]
    for number, shift in enumerate(shifts):
        arm = f"a{number}"
        rows += [r | {"variant": arm, "mse": r["mse"] - shift} for r in ROWS[3:]]
        rows[-1]["mse"] += 0.3
        text += CLAIM.replace('"C1"', f'"C{number}"').replace('system = "a"', f'system = "{arm}"')
    claims = list(ledger(tmp_path, text, rows).claims())
    p = sorted(claim["p"] for claim in claims)
    n = len(p)
    holm = [max((n - j) * p[j] for j in range(i + 1)) for i in range(n)]
    bh = [min(n / (j + 1) * p[j] for j in range(i, n)) for i in range(n)]
    assert sorted(c["p_holm"] for c in claims) == pytest.approx([min(1, x) for x in holm])
    assert sorted(c["q_bh"] for c in claims) == pytest.approx([min(1, x) for x in bh])


def test_an_empty_ledger(tmp_path):
    book = Ledger(tmp_path)
    assert book.table().empty and book.summary()["claims"] == 0
    assert "0 planned claims: none." in book.sentence()


@pytest.mark.parametrize(
    "content", ["{", "{}", "[]", '{"system": "a", "experiments": {"b": {}}}', "\xff"]
)
def test_damaged_records_are_named(tmp_path, content):
    path = tmp_path / "fa_vae.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"record .*fa_vae\.json"):
        read_record(path)


RECORD = {
    "system": "a",
    "experiments": {
        "b": {
            "made": {"ended": "", "machine": {}, "versions": {}, "code": ""},
            "seconds": 1,
            "seeds": [0],
            "rows": [{"variant": "a", "seed": 0}],
            "renewals": [{"code": ""}],
            "gates": [{"id": "g", "passed": True}],
        }
    },
}


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("system",), 3, "'system' must be str, got int"),
        (("experiments",), [], "'experiments' must be dict, got list"),
        (("experiments", "b"), 1, "experiment 'b' must be an object"),
        (("experiments", "b", "rows"), {}, "'rows' must be list, got dict"),
        (("experiments", "b", "rows"), [1], "a row must be an object"),
        (("experiments", "b", "rows"), [{"variant": "a"}], "a row lacks 'seed'"),
        (("experiments", "b", "renewals"), [{}], "a renewal lacks 'code'"),
        (("experiments", "b", "gates"), [{"id": "g"}], "a gate lacks 'passed'"),
        (("experiments", "b", "made", "machine"), None, "'machine' must be dict, got NoneType"),
    ],
)
def test_records_of_another_shape_are_named(tmp_path, place, value, words):
    record = json.loads(json.dumps(RECORD))
    path = tmp_path / "fa_vae.json"
    path.write_text(json.dumps(record))
    assert read_record(path) == record
    inner = record
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"record .*fa_vae\.json: .*{words}"):
        read_record(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"fa_vae\.json is no JSON"):
        read_record(path)


def test_results_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("GENTOK_RESULTS", raising=False)
    monkeypatch.chdir(checkout() / "book")
    assert results_folder() == checkout() / "book" / "results"
    monkeypatch.setenv("GENTOK_RESULTS", str(tmp_path))
    assert results_folder() == tmp_path


PLANS = sorted((checkout() / "notebooks").glob("*/*.claims.toml"))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name.split(".")[0])
def test_every_claim_of_the_book_can_be_judged_and_explained(path, monkeypatch):
    monkeypatch.delenv("GENTOK_RESULTS", raising=False)
    slug = path.name.split(".")[0]
    found = plan_of(slug)
    record = read_record(checkout() / "book" / "results" / f"{slug}.json")
    for claim in found.claims:
        if claim.test:
            file, name = claim.test.split("::")
            assert f"def {name}(" in (checkout() / file).read_text(), claim.test
            continue
        rows = record["experiments"][claim.experiment]["rows"]
        others = {name: made["rows"] for name, made in record["experiments"].items()}
        verdict = judge(claim, found, rows, others)["verdict"]
        assert verdict != "broken", f"{claim.id}: an identity does not hold"
        if claim.kind != "identity" and verdict != "reproduced":
            assert claim.note, f"{claim.id} is {verdict} and no note says why"


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name.split(".")[0])
def test_records_hold_what_a_record_must(path):
    record = read_record(checkout() / "book" / "results" / f"{path.name.split('.')[0]}.json")
    for name, found in record["experiments"].items():
        assert found["made"]["profile"] == "study" and found["made"]["commit"], name
        arms = {row["variant"] for row in found["rows"]}
        runs = {(row["variant"], row["seed"]) for row in found["rows"]}
        assert runs == {(arm, seed) for arm in arms for seed in found["seeds"]}, name
        assert len(found["seeds"]) >= 3, f"{name} has fewer than three seeds"
