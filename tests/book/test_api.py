"""Docstrings become readable reStructuredText, and names lead to references without a network."""

import sys
import zlib

import torch
import transformers

from gentok.book import pairs

sys.path.insert(0, str(pairs.find_root() / "book" / "_ext"))
import api  # noqa: E402


def tidied(text):
    lines = text.split("\n")
    api.tidy(None, None, None, None, None, lines)
    return "\n".join(lines)


def test_bars_are_no_substitutions():
    assert tidied("|z - e|^2 of ``|a|`` and `b|c`") == r"\|z - e\|^2 of ``|a|`` and `b|c`"


def test_a_letter_is_no_number_of_a_list():
    assert tidied("num_heads: h. Heads.") == r"num_heads: h\. Heads."


def test_several_results_are_a_list():
    text = (
        "Split.\n\nReturns:\n    low: LL, (B, C),\n        whole.\n    high: the rest.\n\nRaises:"
    )
    assert tidied(text) == (
        "Split.\n\n\n:returns:\n    * ``low``: LL, (B, C),\n      whole.\n    * ``high``: the rest."
        "\n\n\nRaises:"
    )


def test_one_result_stays_as_it_is():
    text = "Split.\n\nReturns:\n    (B, C): a tensor\n    of numbers."
    assert tidied(text) == text


def test_inventories_name_what_exists():
    for name, module in (("torch", torch), ("transformers", transformers)):
        head, _, body = api.inventory(name).partition(b"using zlib.\n")
        assert head.startswith(b"# Sphinx inventory version 2")
        lines = zlib.decompress(body).decode().splitlines()
        assert len(lines) > 10
        for line in lines:
            word, role, priority, place, shown = line.split(" ")
            assert role in ("py:class", "py:function") and priority == "1" and shown == "-"
            found = module
            for part in word.split(".")[1:]:
                found = getattr(found, part)
            assert isinstance(found, type) or role != "py:class" or callable(found), word
            assert place.endswith(("#$", f"#{word}", "parameter.Parameter"))


def test_modules_that_only_pass_names_on_are_left_out():
    library = pairs.find_root() / "lib" / "gentok"
    assert not api.says_something(library / "latents" / "ard_vae" / "__init__.py")
    assert api.says_something(library / "nn" / "conv.py")
