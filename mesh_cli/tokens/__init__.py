"""Tokens that say who calls the mesh: the keys that sign them, and the record of them."""
