"""Other model servers with the same model, each in its own virtual environment.

A folder here holds a peer's server and its exact requirements; `catalog.py` says how each is
started and called. The servers import nothing of this repository but `shared/classifier.py`.
"""
