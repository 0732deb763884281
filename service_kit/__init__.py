"""What every gRPC service of the mesh shares: lifecycle, errors, settings, registry, database."""
