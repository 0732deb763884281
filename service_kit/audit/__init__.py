"""Who changed what: an entry for each change, in the append-only table mesh.audit."""
