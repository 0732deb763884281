"""Engines: the libraries that compute a model, behind one interface."""
