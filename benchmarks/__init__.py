"""The library beside its peers: the same work, interleaved in one run, reported as ratios."""
