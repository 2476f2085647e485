"""Processes from a server that has imported what is slow to import: starting one takes no seconds.

There is one server in a pytest process, whoever uses it, so that what it imports is kept together.
"""

import multiprocessing

_preloaded = ["torch"]


def context(*modules: str):
    """A way to start processes, as `multiprocessing` has it; the server imports modules first."""
    _preloaded.extend(name for name in modules if name not in _preloaded)
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(_preloaded)
    return chosen
