"""The text of the published runs: web pages and code, for hosts with a vocabulary of their own.

The released code reads ``NeelNanda/c4-code-tokenized-2b``, in contexts of 128 tokens. Its rows are
tokens already, and the tokens are those of gelu-1l. The code hands these numbers to Pythia too,
whose vocabulary is another; here they become text again, which Pythia reads through its own
tokenizer. A folder of files goes before the hub: ``GENTOK_DATA/text/web/*.parquet`` with a column
``tokens`` (of the host's own) or ``text``, or ``*.txt``.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gentok.base.gelu_1l import TOKENIZER, Gelu1LConfig
from gentok.base.language_model import PRESETS
from gentok.data.files import reading
from gentok.data.folder import find
from gentok.interpret.vsae.corpus import Corpus

FOLDER = "text/web"  # of GENTOK_DATA
HUB = "NeelNanda/c4-code-tokenized-2b"
VOCABULARY = {"gelu-1l": Gelu1LConfig().d_vocab, "pythia": PRESETS["pythia-70m"].vocab_size}


def web_corpus(
    host: str, tokenizer: PreTrainedTokenizerFast | None, context: int, count: int
) -> Corpus:
    """The first contexts of the published text, without labels.

    Args:
        host: ``"gelu-1l"``, whose tokens the hub has, or ``"pythia"``, which needs the text.
        tokenizer: for rows that are text; rows of tokens need none.
        context: tokens a context.
        count: contexts.

    Raises:
        FileNotFoundError: if there is neither a folder nor a way to the hub.
        ValueError: if the source is damaged, has too little text, or text and no tokenizer.
    """
    rows, source = _rows(host)
    rows = _checked(rows, source, VOCABULARY[host])
    contexts = list(islice(_contexts(rows, tokenizer, context), count))
    if len(contexts) < count:
        raise ValueError(f"{source} holds {len(contexts)} contexts of {context}, {count} asked")
    return Corpus(torch.tensor(contexts), {}, {}, tokenizer, source)


def _rows(host: str) -> tuple[Iterable[dict], str]:
    """Rows with ``tokens`` or ``text``, and where they come from."""
    from datasets import load_dataset  # slow to import, and needed only here

    folder = find(FOLDER)
    if folder is None:
        try:
            rows = load_dataset(HUB, split="train", streaming=True).select_columns("tokens")
            return (rows if host == "gelu-1l" else _as_text(rows)), HUB
        except (OSError, ConnectionError) as error:
            raise FileNotFoundError(
                f"no {FOLDER}/*.parquet or *.txt under GENTOK_DATA, and {HUB} cannot be reached"
            ) from error
    for kind, pattern in (("parquet", "*.parquet"), ("text", "*.txt")):
        if files := sorted(str(path) for path in folder.glob(pattern)):
            with reading(f"{FOLDER}/{pattern}", "source of text"):
                rows = load_dataset(kind, data_files=files, split="train", streaming=True)
            return rows, f"{FOLDER}/{pattern}"
    raise FileNotFoundError(f"{folder} holds neither *.parquet nor *.txt")


def _as_text(rows: Iterable[dict]) -> Iterable[dict]:
    """Rows of gelu-1l's tokens -> rows of text."""
    reader = AutoTokenizer.from_pretrained(TOKENIZER)
    return ({"text": reader.decode(row["tokens"], skip_special_tokens=True)} for row in rows)


def _checked(rows: Iterable[dict], source: str, vocabulary: int) -> Iterator[dict]:
    """The rows, each of them a text or a list of tokens of the vocabulary."""
    with reading(source, "source of text"):
        for row in rows:
            tokens = row.get("tokens")
            if not isinstance(row.get("text"), str) and not (
                isinstance(tokens, list)
                and all(type(token) is int and 0 <= token < vocabulary for token in tokens)
            ):
                wanted = f"neither text nor tokens from 0 to {vocabulary - 1}"
                raise ValueError(f"a row has {wanted}, but {row!r:.60}")
            yield row


def _contexts(
    rows: Iterable[dict], tokenizer: PreTrainedTokenizerFast | None, context: int
) -> Iterator[list[int]]:
    """Rows joined by the end of text and cut; rows of tokens are cut one by one, as released."""
    left: list[int] = []
    for row in rows:
        if "tokens" in row:
            tokens = row["tokens"]
            yield from (
                tokens[i : i + context] for i in range(0, len(tokens) - context + 1, context)
            )
            continue
        if tokenizer is None:
            raise ValueError("rows of text need a tokenizer; this host came without one")
        left += [*tokenizer(row["text"], verbose=False).input_ids, tokenizer.eos_token_id]
        while len(left) >= context:
            yield left[:context]
            left = left[context:]
