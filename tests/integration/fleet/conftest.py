"""The Envoy before toy services that the tests of Envoy's doors use as well."""

from tests.integration.envoy.conftest import mesh

__all__ = ["mesh"]
