"""Shared by every gRPC service of the mesh: lifecycle, errors, settings, registry, database."""
