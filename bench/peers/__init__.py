"""Other model servers with the same model, each in an environment of its own.

A folder here holds a peer's server and its exact requirements; `catalog.py` says how each is
started and asked. The servers import nothing of this repository but `shared/classifier.py`.
"""
