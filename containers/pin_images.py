"""`python containers/pin_images.py` adds the digest to every foreign image that has none.

It asks the images' registries by `docker buildx imagetools inspect`, so it needs Docker and a way
to the registries, and rewrites the Dockerfiles and Compose files. Look at the difference before you
commit it, and take the images out of the list in tests/unit/structure/test_containers.py.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
# An image of a registry with a version and without a digest, where a file names it.
_NAMED = re.compile(r"(?m)^(ARG \w+_IMAGE=|    image: )((?!mesh-)[\w./-]+:[\w.-]+)$")


def digest(image: str) -> str:
    """Ask the image's registry for the digest of all its platforms. Raises CalledProcessError."""
    asked = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not re.fullmatch("sha256:[0-9a-f]{64}", answer):
        raise ValueError(f"the registry gives no digest of {image}, but {answer[:100]!r}")
    return answer


def pinned(text: str, digest_of: Callable[[str], str]) -> str:
    """The same file with digests."""
    return _NAMED.sub(lambda found: f"{found[0]}@{digest_of(found[2])}", text)


def main() -> None:
    """Rewrite all files that name images."""
    known: dict[str, str] = {}

    def digest_of(image: str) -> str:
        if image not in known:
            known[image] = digest(image)
            print(f"{image}@{known[image]}")
        return known[image]

    for path in (*ROOT.glob("compose*.yaml"), *ROOT.glob("[!.]*/**/Dockerfile")):
        path.write_text(pinned(path.read_text(), digest_of))


if __name__ == "__main__":
    main()
