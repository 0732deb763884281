"""Where a service listens: strangers reach none that cannot tell who they are."""

from pathlib import Path

import pytest

from service_kit.identities.issuing import Issuer
from service_kit.identities.names import TRAINING
from service_kit.server import check_who_gets_in
from service_kit.settings import ServiceSettings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.0.1", "::1", "[::1]", "localhost"])
def test_on_loopback_it_needs_no_identity(host: str) -> None:
    check_who_gets_in(ServiceSettings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "inference", "localhost.evil", ""])
def test_elsewhere_it_needs_one_or_a_word_of_the_operator(host: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set MESH_IDENTITY_FOLDER"):
        check_who_gets_in(ServiceSettings(host=host))
    check_who_gets_in(ServiceSettings(host=host, plain_text=True))
    Issuer(tmp_path).renew([TRAINING])
    check_who_gets_in(ServiceSettings(host=host, identity_folder=tmp_path / TRAINING))


def test_an_identity_that_is_no_good_is_no_reason_for_plain_text(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cert\.pem cannot be read"):
        check_who_gets_in(ServiceSettings(identity_folder=tmp_path, plain_text=True))
