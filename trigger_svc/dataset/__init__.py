"""The rows of the models: how they are checked, added, imported and counted."""
