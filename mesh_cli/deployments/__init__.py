"""The interface of a mesh that the verbs use, whether it runs as processes or in containers."""
