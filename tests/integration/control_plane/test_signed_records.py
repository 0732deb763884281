"""What is served is what the control plane has signed, whatever a stranger writes to MLflow, with a
real Envoy, MLflow and PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from service_kit.model_registry.promoted import TAG_PROMOTED, promoted_tag
from service_kit.model_registry.promotion import Promotions
from service_kit.model_registry.records import CHAMPION, SERVING
from service_kit.signing.first_use import RECORDS
from service_kit.signing.keys import TrustedKeys
from service_kit.signing.records import TAG_SERVING, served_version
from tests.real_parts.postgres import execute
from tests.real_parts.waiting import until, until_async
from tests.twins.signing import make_key
from tests.twins.steered_mesh import SteeredMesh, steered_mesh

TRAFFIC = "mesh.traffic"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_key(tmp_path / "keys", "control-plane")


@pytest.fixture
async def mesh(
    tmp_path: Path, mlflow_url: str, postgres_url: str, keys: tuple[Path, Path]
) -> AsyncIterator[SteeredMesh]:
    async with steered_mesh(tmp_path, mlflow_url, postgres_url, signing_key=keys[0]) as running:
        await until_async(lambda: has_begun(postgres_url), 10)
        yield running


async def has_begun(url: str) -> bool:
    """Whether the control plane has noted that it signs."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('mesh.signing_keys') IS NOT NULL")
        if cursor.fetchone() != (True,):
            return False
        cursor.execute("SELECT count(*) FROM mesh.signing_keys WHERE purpose = %s", (RECORDS,))
        return cursor.fetchone() != (0,)


async def shown(mesh: SteeredMesh, model: str) -> str:
    """The version that the fleet is to serve, as it is shown."""
    fleet = (await mesh.http.get("/fleet")).json()
    return str({item["name"]: item for item in fleet["models"]}[model].get("servingVersion", ""))


async def until_alias(mesh: SteeredMesh, model: str, version: str) -> None:
    async def is_so() -> bool:
        return (await mesh.aliases(model)).get(SERVING, "") == version

    await until_async(is_so, 15)


async def test_serving_set_by_hand_is_put_back_and_changes_nothing(mesh: SteeredMesh) -> None:
    model = "forged"
    first = await mesh.served(model)
    forged = await mesh.new_version(model)
    for _ in range(3):
        await mesh.registry.set_alias(model, SERVING, forged)
        await until_alias(mesh, model, first)
    assert await shown(mesh, model) == first
    assert [replica.serving[model] for replica in mesh.replicas] == [first, first]


async def test_serving_of_a_model_that_was_never_reloaded_is_ignored(mesh: SteeredMesh) -> None:
    await mesh.served("known")
    forged = await mesh.new_version("stranger")
    await mesh.registry.set_alias("stranger", SERVING, forged)
    await mesh.registry.set_alias("stranger", CHAMPION, forged)
    # The control plane has read the registry since, for it has put back the alias of the other one.
    await mesh.registry.delete_alias("known", SERVING)
    await until_alias(mesh, "known", "1")
    assert await shown(mesh, "stranger") == ""
    assert all("stranger" not in replica.serving for replica in mesh.replicas)


async def test_a_record_that_is_removed_replayed_or_forged_is_put_back(
    mesh: SteeredMesh, keys: tuple[Path, Path]
) -> None:
    model, trusted = "replayed", TrustedKeys(keys[1])
    first = await mesh.served(model)
    before = await mesh.registry.find_model(model)
    assert before
    second = await mesh.promoted(model, first)
    await mesh.post(f"/models/{model}:reload", {})
    for text in (before.tags[TAG_SERVING], "{}", '{"version": "1", "source": ""}'):
        await mesh.registry.tag_model(model, TAG_SERVING, text)
        await mesh.registry.set_alias(model, SERVING, first)

        async def is_put_back(text: str = text) -> bool:
            found = await mesh.registry.find_model(model)
            assert found
            if found.aliases[SERVING] != second or found.tags[TAG_SERVING] == text:
                return False
            return served_version(found, trusted).version == second

        await until_async(is_put_back, 15)
    assert await shown(mesh, model) == second
    assert [replica.serving[model] for replica in mesh.replicas] == [second, second]


async def test_a_split_that_nobody_set_gives_a_challenger_no_traffic(mesh: SteeredMesh) -> None:
    model = "unsplit"
    await mesh.served(model)
    challenger = await mesh.challenged(model)
    source = (await mesh.registry.get_version(model, challenger)).source
    forged = (
        '{"champion": 0, "challenger": 100, "mirror_percent": 0, '
        f'"version": "{challenger}", "source": "{source}"}}'
    )
    await mesh.registry.tag_model(model, TRAFFIC, forged)
    await mesh.registry.delete_alias(model, SERVING)
    await until_alias(mesh, model, "1")
    traffic = (await mesh.http.get(f"/models/{model}/traffic")).json()
    assert (traffic["championWeight"], traffic.get("challengerWeight", 0)) == (100, 0)
    await mesh.split(model, 90, 10)
    traffic = (await mesh.http.get(f"/models/{model}/traffic")).json()
    assert (traffic["championWeight"], traffic["challengerWeight"]) == (90, 10)


async def test_reload_rollback_and_a_restart_go_on_working(mesh: SteeredMesh) -> None:
    model = "steered"
    first = await mesh.served(model)
    second = await mesh.promoted(model, first)
    await mesh.post(f"/models/{model}:reload", {})
    await mesh.post(f"/models/{model}:reload", {"version": first})
    await mesh.post(f"/models/{model}:reload", {})
    await mesh.post(f"/models/{model}:rollback", {})
    assert (await mesh.aliases(model))[SERVING] == first
    await mesh.restart()
    mesh.replicas[1].serving.clear()
    await until(lambda: mesh.replicas[1].serving.get(model) == first, 15)
    assert (await mesh.aliases(model))[CHAMPION] == first
    assert second != first


async def test_an_older_record_put_back_while_the_control_plane_is_stopped_does_not_count(
    mesh: SteeredMesh, postgres_url: str, keys: tuple[Path, Path]
) -> None:
    model, trusted = "stopped", TrustedKeys(keys[1])
    first = await mesh.served(model)
    before = await mesh.registry.find_model(model)
    assert before
    second = await mesh.promoted(model, first)
    await mesh.post(f"/models/{model}:reload", {})
    after = await mesh.registry.find_model(model)
    assert after
    await until_async(lambda: is_kept(postgres_url, after.tags[TAG_SERVING]), 10)
    await mesh.stop()
    await mesh.registry.tag_model(model, TAG_SERVING, before.tags[TAG_SERVING])
    await mesh.registry.set_alias(model, SERVING, first)
    await mesh.start()

    async def is_put_back() -> bool:
        found = await mesh.registry.find_model(model)
        assert found
        return served_version(found, trusted).version == second

    await until_async(is_put_back, 20)
    assert await shown(mesh, model) == second
    assert [replica.serving[model] for replica in mesh.replicas] == [second, second]
    # Without the database's copy MLflow alone tells, as before.
    execute(postgres_url, "TRUNCATE mesh.served_records, mesh.signing_keys")
    await mesh.restart()
    mesh.replicas[1].serving.clear()
    await until(lambda: mesh.replicas[1].serving.get(model) == second, 15)


async def is_kept(url: str, text: str) -> bool:
    """Whether the database has a copy of a record."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM mesh.served_records WHERE content = %s", (text,))
        return cursor.fetchone() != (0,)


async def test_a_champion_moved_by_hand_is_not_followed(
    mesh: SteeredMesh, postgres_url: str
) -> None:
    model = "by_hand"
    first = await mesh.served(model)
    promotions = Promotions(postgres_url, mesh.registry)
    second = await mesh.new_version(model)
    await promotions.promote(model, second, first, serve=True)
    await until_alias(mesh, model, second)
    rejected = await mesh.new_version(model)
    found = await mesh.registry.find_model(model)
    assert found
    await mesh.registry.tag_model(model, TAG_PROMOTED, promoted_tag(found, rejected, True))
    await mesh.registry.set_alias(model, CHAMPION, rejected)

    async def is_told() -> bool:
        fleet = (await mesh.http.get("/fleet")).json()
        about = {item["name"]: item for item in fleet["models"]}[model]
        return "moved the alias by hand" in about.get("detail", "")

    await until_async(is_told, 20)
    assert await shown(mesh, model) == second
    assert [replica.serving[model] for replica in mesh.replicas] == [second, second]
    await mesh.post(f"/models/{model}:reload", {})
    assert await shown(mesh, model) == rejected


async def test_records_in_mlflow_are_enough_when_the_database_is_lost(
    mesh: SteeredMesh, postgres_url: str
) -> None:
    model = "recovered"
    first = await mesh.served(model)
    forged = await mesh.new_version("stranger")
    await mesh.registry.set_alias("stranger", SERVING, forged)
    execute(postgres_url, "TRUNCATE mesh.signing_keys")
    await mesh.restart()
    mesh.replicas[1].serving.clear()
    await until(lambda: mesh.replicas[1].serving.get(model) == first, 15)
    await until_async(lambda: has_begun(postgres_url), 10)
    assert await shown(mesh, model) == first
    stranger = await mesh.registry.find_model("stranger")
    assert stranger
    assert TAG_SERVING not in stranger.tags


async def test_what_was_served_before_signatures_is_signed_once(
    tmp_path: Path, mlflow_url: str, postgres_url: str, keys: tuple[Path, Path]
) -> None:
    model = "earlier"
    async with steered_mesh(tmp_path, mlflow_url, postgres_url) as mesh:
        first = await mesh.served(model)
        await mesh.challenged(model)
        await mesh.split(model, 90, 10)
        mesh.settings = mesh.settings.model_copy(update={"signing_key": keys[0]})
        await mesh.restart()
        await until_async(lambda: has_begun(postgres_url), 10)
        found = await mesh.registry.find_model(model)
        assert found
        assert served_version(found, TrustedKeys(keys[1])).version == first
        assert served_version(replace(found, tags={}), TrustedKeys(keys[1])).version == ""
        traffic = (await mesh.http.get(f"/models/{model}/traffic")).json()
        assert (traffic["championWeight"], traffic["challengerWeight"]) == (90, 10)
        # Once a key has signed, what is not signed is not trusted after a restart either.
        late = await mesh.new_version("late")
        await mesh.registry.set_alias("late", SERVING, late)
        await mesh.restart()
        await mesh.registry.delete_alias(model, SERVING)
        await until_alias(mesh, model, first)
        assert await shown(mesh, "late") == ""
