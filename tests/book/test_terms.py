"""Glossary terms are linked where they first stand in running text, and nowhere else."""

import sys
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx import addnodes

from gentok.book import pairs

ROOT = pairs.find_root()
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import terms  # noqa: E402

GLOSSARY = """# Glossary

```{glossary}

codebook
  A table.

Haar wavelet
  A step, as in latent space.

latent
  A small tensor.

token
  A piece.
```
"""


@pytest.fixture
def linked(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "glossary.md").write_text(GLOSSARY, "utf-8")

    def link(*content, page="notebooks/latents/toy"):
        document = new_document("toy")
        document += content
        env = SimpleNamespace(docname=page, note_dependency=lambda path: None)
        terms.link_terms(SimpleNamespace(env=env, srcdir=tmp_path), document)
        found = document.findall(addnodes.pending_xref)
        return [(x["reftarget"], x.astext()) for x in found], document.astext()

    return link


def test_first_use_is_linked_in_any_form_and_the_text_stays(linked):
    words = "Latents fill a codebook. A latent is small; two codebooks; Haar wavelets; a token."
    found, text = linked(nodes.paragraph("", words))
    assert found == [
        ("latent", "Latents"),
        ("codebook", "codebook"),
        ("Haar wavelet", "Haar wavelets"),
    ]
    assert text == words


def test_headings_code_and_links_are_left_alone(linked):
    title = nodes.title("", "A codebook")
    code = nodes.paragraph("", "", nodes.literal("", "latent"))
    reference = nodes.paragraph("", "", nodes.reference("", "latent", refuri="#"))
    assert linked(title, code, reference)[0] == []
    assert linked(nodes.paragraph("", "multi-latent, latently"))[0] == []


def test_a_link_by_hand_is_the_first_use(linked):
    by_hand = addnodes.pending_xref("", nodes.inline("", "latents"), reftype="term")
    by_hand["reftarget"] = "Latent"
    before, after = nodes.paragraph("", "A latent."), nodes.paragraph("", "", by_hand)
    assert linked(before, after)[0] == [("Latent", "latents")]


def test_other_pages_are_left_alone(linked):
    assert linked(nodes.paragraph("", "A latent."), page="book/glossary")[0] == []


def test_terms_of_the_real_glossary():
    found = terms.glossary_terms((ROOT / "book" / "glossary.md").read_text("utf-8"))
    assert len(found) > 80 and len(set(found)) == len(found)
    assert {"ablation", "KL divergence", "Mix'n'Match", "vision transformer"} <= set(found)
    assert set(found) >= terms.EVERYDAY
