"""How a version gets here: downloaded, loaded, warmed and proved."""
