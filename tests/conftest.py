"""The order of the files: those that take longest begin, so that no worker is left with one."""

from pathlib import Path

TESTS = Path(__file__).parent
LONGEST = (
    "book/test_site.py",
    "book/test_weights.py",
    "test_mutations.py",
    "training/test_train.py",
    "book/test_renew.py",
    "book/test_wheel.py",
    "video/test_step_video_recipe.py",
    "training/test_machines.py",
    "book/test_weights_all.py",
    "book/test_study.py",
    "book/test_epub.py",
    "book/test_compare.py",
    "book/test_notebook_tool.py",
)


def pytest_collection_modifyitems(items):
    """Files of `LONGEST` first, the others as they were; `--no-loadscope-reorder` keeps it so."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))
