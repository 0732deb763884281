"""An OpenID Connect issuer over TLS, as a process: `python -m tests.real_parts.oidc_issuer`.

It has a discovery document, a JWKS whose keys rotate, and signs whatever claims it is asked for,
also with a key that it has taken out of its JWKS.
"""

import argparse
import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from service_kit.certificates.authority import AUTHORITY_FILE, Authority
from tests.real_parts.postgres import free_port
from tests.real_parts.service_process import start_module
from tests.real_parts.waiting import LOOK_EVERY_S

HOST = "127.0.0.1"
AUDIENCE = "champion-mesh-of-acme"
RS256, ES256 = "RS256", "ES256"


class Keys:
    """The keys by their names; those in use are in the JWKS."""

    def __init__(self) -> None:
        self.all: dict[str, Any] = {}
        self.used: list[str] = []
        self.algorithm: dict[str, str] = {}
        self.make(RS256)

    def make(self, algorithm: str) -> str:
        """Make a key that signs from now on; return its name."""
        kid = f"key-{len(self.all) + 1}"
        self.all[kid] = (
            rsa.generate_private_key(65537, 2048)
            if algorithm == RS256
            else ec.generate_private_key(ec.SECP256R1())
        )
        self.algorithm[kid] = algorithm
        self.used.append(kid)
        return kid

    def jwks(self) -> dict[str, Any]:
        """The public halves of the keys in use."""
        kinds: Any = {RS256: jwt.algorithms.RSAAlgorithm, ES256: jwt.algorithms.ECAlgorithm}
        keys = []
        for kid in self.used:
            public = kinds[self.algorithm[kid]].to_jwk(self.all[kid].public_key(), as_dict=True)
            keys.append({**public, "kid": kid, "alg": self.algorithm[kid], "use": "sig"})
        return {"keys": keys}

    def sign(self, claims: dict[str, Any], kid: str = "") -> str:
        """Sign claims with a key, by default with the newest one."""
        name = kid or self.used[-1]
        return jwt.encode(claims, self.all[name], self.algorithm[name], {"kid": name})


def handler(keys: Keys, url: str) -> type[BaseHTTPRequestHandler]:
    """The pages of the issuer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages: dict[str, Any] = {
                "/.well-known/openid-configuration": {"issuer": url, "jwks_uri": f"{url}/jwks"},
                "/jwks": keys.jwks(),
            }
            self._answer(pages.get(self.path))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.path == "/token":
                self._answer({"token": keys.sign(asked["claims"], asked["kid"])})
            elif self.path == "/rotate":
                kid = keys.make(asked["algorithm"])
                if not asked["keep_old"]:
                    del keys.used[:-1]
                self._answer({"kid": kid})
            else:
                self._answer(None)

        def _answer(self, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(404 if content is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    chosen = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chosen.certificate, chosen.key)
    server = ThreadingHTTPServer(
        (HOST, chosen.port), handler(Keys(), f"https://{HOST}:{chosen.port}")
    )
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


@dataclass
class OidcIssuer:
    """The running issuer."""

    url: str
    ca_file: Path
    http: httpx.AsyncClient

    async def jwks_uri(self) -> str:
        """As its discovery document says."""
        document = (await self.http.get("/.well-known/openid-configuration")).json()
        assert document["issuer"] == self.url
        uri: str = document["jwks_uri"]
        return uri

    async def token(self, kid: str = "", **claims: Any) -> str:
        """A token of the caller `ann`; `claims` replace those that it would have, None: none."""
        now = int(time.time())
        whole = {
            **{"iss": self.url, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 600},
            **{"groups": ["staff", "mesh-writers"], "mesh_models": "films*"},
        } | claims
        asked = {"claims": {k: v for k, v in whole.items() if v is not None}, "kid": kid}
        token: str = (await self.http.post("/token", json=asked)).json()["token"]
        return token

    async def rotate(self, keep_old: bool, algorithm: str = RS256) -> str:
        """Sign with a new key from now on; return its name."""
        asked = {"keep_old": keep_old, "algorithm": algorithm}
        kid: str = (await self.http.post("/rotate", json=asked)).json()["kid"]
        return kid


@asynccontextmanager
async def running_issuer(folder: Path) -> AsyncIterator[OidcIssuer]:
    """Run an issuer whose certificate is of an authority of its own."""
    folder.mkdir()
    certificate, key = Authority.in_folder(folder).issue([HOST])
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    port = free_port()
    process = await start_module(
        "tests.real_parts.oidc_issuer",
        *("--port", str(port), "--certificate", str(folder / "cert.pem")),
        *("--key", str(folder / "key.pem")),
        environment={},
        log=folder / "issuer.log",
    )
    url = f"https://{HOST}:{port}"
    ca_file = folder / AUTHORITY_FILE
    context = ssl.create_default_context(cafile=str(ca_file))
    try:
        async with httpx.AsyncClient(base_url=url, verify=context, timeout=20) as http:
            await asyncio.wait_for(_until_up(http), 30)
            yield OidcIssuer(url, ca_file, http)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def _until_up(http: httpx.AsyncClient) -> None:
    while True:
        try:
            await http.get("/jwks")
        except httpx.TransportError:
            await asyncio.sleep(LOOK_EVERY_S)
        else:
            return


if __name__ == "__main__":
    main()
