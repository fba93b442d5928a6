"""Side by side with the peers: the same model, images and threads, how long and with what result.

`make bench` runs every comparison, writes `results.json` and renders `docs/performance.md` from it.
Nothing of the harness imports this package, and it is no part of what is installed.
"""
