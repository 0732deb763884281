"""Rows, a tiny base model and a training service in a process, for the tests that need them."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.v1 import train_pb2, train_pb2_grpc
from tests.real_parts.postgres import free_port
from tests.real_parts.service_process import start_module
from tests.real_parts.waiting import LOOK_EVERY_S, until

GOOD = ["good", "fine", "lovely", "superb"]
BAD = ["bad", "poor", "awful", "dull"]
NEUTRAL = ["film", "book", "plot", "song", "cast", "very", "the", "a", "was", "is"]

TABLE = """
CREATE SCHEMA IF NOT EXISTS training;
CREATE TABLE training.{model} (
    id bigint GENERATED ALWAYS AS IDENTITY, text text NOT NULL, label text NOT NULL,
    split text NOT NULL, source text, created_at timestamptz NOT NULL DEFAULT now())
"""


def make_tiny_bert(folder: Path) -> Path:
    """Save a BERT with random weights that learns GOOD and BAD in a second; return its folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *NEUTRAL]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    words = {word: number for number, word in enumerate(vocabulary)}
    BertTokenizer(vocab=words).save_pretrained(folder)
    return folder


def make_rows(count: int) -> list[tuple[str, str, str]]:
    """Return `count` distinct texts with label and split; half of them are held out."""
    rng = random.Random(7)
    texts: dict[str, str] = {}
    while len(texts) < count:
        label = ("neg", "pos")[len(texts) % 2]
        opinion = rng.choice(GOOD if label == "pos" else BAD)
        texts.setdefault(" ".join([*rng.choices(NEUTRAL, k=4), opinion]), label)
    return [
        (text, label, ("train", "test")[number // 2 % 2])
        for number, (text, label) in enumerate(texts.items())
    ]


def import_rows(url: str, model: str, rows: list[tuple[str, str, str]], *, new: bool) -> None:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        if new:
            cursor.execute(TABLE.format(model=model))
        cursor.executemany(
            f"INSERT INTO training.{model} (text, label, split) VALUES (%s, %s, %s)", rows
        )


@dataclass
class Service:
    """A training service in a process of its own."""

    process: asyncio.subprocess.Process
    stub: "train_pb2_grpc.TrainServiceAsyncStub"
    seconds_to_serve: float

    async def train(self, model: str, request_id: str, **more: object) -> train_pb2.TrainingJob:
        request = train_pb2.TrainRequest(model=model, request_id=request_id, **more)  # type: ignore[arg-type]
        return await self.stub.Train(request)

    async def watch(self, any_id: str) -> AsyncIterator[train_pb2.TrainingJob]:
        async for job in self.stub.WatchTraining(train_pb2.WatchTrainingRequest(id=any_id)):
            yield job

    async def ended(self, any_id: str) -> train_pb2.TrainingJob:
        last = train_pb2.TrainingJob()
        async for job in self.watch(any_id):
            last = job
        return last

    async def trained_on(self, any_id: str, steps: int) -> train_pb2.TrainingJob:
        """Return the job once `steps` steps are done, or once it has failed."""
        async for job in self.watch(any_id):
            if job.progress.step >= steps or job.error:
                return job
        raise AssertionError(f"the job ended before step {steps}")

    async def child_pid(self) -> int:
        """Process id of the service's child process, once there is one."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        await until(lambda: bool(children.read_text()))
        return int(children.read_text().split()[0])


async def _until_serving(channel: aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)  # its type stub lacks the methods
    request = health_pb2.HealthCheckRequest()
    while True:
        answer = await health.Check(request, wait_for_ready=True)
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return
        await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def running_service(settings: Mapping[str, str], log: Path) -> AsyncIterator[Service]:
    """Run `python -m training_svc.main`; yield it when it serves, and terminate it at the end."""
    port = free_port()
    environment = {f"TRAINING_{name.upper()}": value for name, value in settings.items()}
    started = asyncio.get_running_loop().time()
    environment["TRAINING_PORT"] = str(port)
    process = await start_module("training_svc.main", environment=environment, log=log)
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(_until_serving(channel), 30)
            seconds = asyncio.get_running_loop().time() - started
            yield Service(process, train_pb2_grpc.TrainServiceStub(channel), seconds)
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)
