"""Texts of any lengths in rows: everything is there once, and little besides."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_svc.batching.cutting import BatchLimits, cut_batch
from inference_svc.batching.job import Job, Lane, QueuedText
from inference_svc.engines.openvino_engine import OpenVinoEngine
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.model_files import TOKENIZER_FILE, WEIGHTS_FOLDER, read_pad_id, read_spec
from inference_svc.model.packing import ROW_STEP, ROW_TOKENS, lay_out, pack
from inference_svc.model.text_tokenizer import TextTokenizer, Tokens
from tests.twins.replica import WORDS, write_model

PAD = -7
GRAPH = "openvino/model.xml"
lengths = st.lists(st.integers(1, 300), min_size=1, max_size=64)


@given(lengths)
def test_every_text_is_whole_and_knows_its_own_tokens(lengths: list[int]) -> None:
    texts = [[1000 * index + at for at in range(length)] for index, length in enumerate(lengths)]
    packed = pack(texts, lay_out(lengths), PAD)
    flat, numbers = packed.ids.ravel(), packed.numbers.ravel()
    for index, text in enumerate(texts):
        mine = numbers == index + 1
        begin = packed.first[index]
        assert flat[mine].tolist() == text == flat[begin : begin + len(text)].tolist()
        assert packed.positions.ravel()[mine].tolist() == list(range(len(text)))
    assert (flat[numbers == 0] == PAD).all()
    assert len(packed.first) % 8 == 0


@given(lengths)
def test_rows_are_no_longer_than_they_must_be_and_hardly_a_gap_is_left(lengths: list[int]) -> None:
    layout = lay_out(lengths)
    assert layout.tokens % ROW_STEP == 0
    assert max(lengths) <= layout.tokens <= max(ROW_TOKENS, max(lengths) + 80)
    used = [0] * layout.rows
    for length, (row, _) in zip(lengths, layout.places, strict=True):
        used[row] += length
    assert max(used) <= layout.tokens
    if layout.rows == 1:
        assert layout.tokens - sum(lengths) < ROW_STEP
    else:
        # No two rows would fit into one, or the text that came later would be there.
        assert sum(sorted(used)[:2]) > layout.tokens


@pytest.mark.parametrize(
    "texts", [[7, 150] * 6, [5 + 7 * at % 40 for at in range(40)], [25, 31, 19], [20, 40, 25, 10]]
)
def test_texts_fill_rows_up_to_a_tenth_however_few_they_are(texts: list[int]) -> None:
    layout = lay_out(texts)
    assert 1 - sum(texts) / (layout.rows * layout.tokens) < 0.1


@pytest.fixture(scope="module")
def packing_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = write_model(tmp_path_factory.mktemp("model"), with_graph=True)
    spec = read_spec(folder)
    assert spec.graph == GRAPH
    return LoadedModel(
        spec,
        read_pad_id(folder, spec),
        TextTokenizer(folder / TOKENIZER_FILE, spec.max_tokens),
        OpenVinoEngine("fp32", 1).load(folder / WEIGHTS_FOLDER, folder / GRAPH),
    )


def texts_of(model: LoadedModel, count: int) -> list[Tokens]:
    words = [" ".join(WORDS[: 1 + 3 * number % len(WORDS)]) for number in range(count)]
    return model.tokenizer.encode(words)


def test_neighbours_in_a_row_do_not_change_an_answer(packing_model: LoadedModel) -> None:
    assert packing_model.packs
    texts = texts_of(packing_model, 30)
    together = packing_model.run(texts).scores
    alone = np.concatenate([packing_model.run([text]).scores for text in texts])
    assert together == pytest.approx(alone, abs=1e-5)


def test_shapes_can_be_met_beforehand(packing_model: LoadedModel) -> None:
    for rows, tokens in ((1, 16), (3, 64), (2, 128)):
        packing_model.warm_up(rows, tokens)
    assert len(packing_model.run(texts_of(packing_model, 20)).scores) == 20


async def test_packed_batches_take_the_texts_in_their_order(packing_model: LoadedModel) -> None:
    future = asyncio.get_running_loop().create_future()
    job = Job(packing_model, ["good"] * 6, Lane.INTERACTIVE, None, future)
    waiting = [
        QueuedText(job, index, float(index), Tokens([1] * length, truncated=False), length)
        for index, length in enumerate([40, 3, 60, 5, 50, 2])
    ]
    batch = cut_batch(waiting, BatchLimits(tokens=110, texts=8))
    assert [text.index for text in batch.texts] == [0, 1, 2, 3]
    computed = packing_model.run([text.tokens for text in batch.texts])
    assert batch.pad_waste(computed.tokens) == pytest.approx(1 - 108 / 112)
    assert len(cut_batch(waiting[2:], BatchLimits(tokens=10, texts=8)).texts) == 1
