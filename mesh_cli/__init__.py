"""The `mesh` command: the whole system as local processes, and every verb of the contract."""
