import json
import math
import random

import pytest
from conftest import TRAIN, sentence

from gptexp.checkpoints.load_model import build_model
from gptexp.config import compose, schema
from gptexp.data.tokenizers import build
from gptexp.errors import UserError
from gptexp.run import run
from gptexp.tasks.layout import EvalExample
from gptexp.tasks.prepare import prepare
from gptexp.tasks.summarize import NameRecall, Repeated, Support
from gptexp.tasks.task import make_task

TEXT = "Open a file. Then read_all of it with GZipFile, version 3, for the sake of a long text that has many words."
EXAMPLES = [EvalExample(TEXT, "Read a GZipFile with read_all.")] * 4


def test_the_stronger_of_two_baselines_counts_and_names_are_looked_for(tiny):
    task = make_task(schema.SummarizeConfig(max_target_tokens=8), tiny("task=summarize").model)
    baselines = task.baselines(EXAMPLES)
    assert baselines["first sentence of the text"][0] == "Open a file."
    assert (
        baselines["first 12 words of the text"][0]
        == "Open a file. Then read_all of it with GZipFile, version 3, for"
    )
    scores = {name: task.score(texts, EXAMPLES) for name, texts in baselines.items()}
    assert (
        scores["first 12 words of the text"]["rouge1"]
        > scores["first sentence of the text"]["rouge1"]
    )
    recall = NameRecall()
    assert recall.score_all(["It has a GZipFile, and reread_alls."] * 4, EXAMPLES)["names"] == 0.5
    plain = EvalExample("A text.", "All plain words.")
    assert math.isnan(
        recall.score_all(["Nothing."], [plain])["names"]
    )  # there is no name to recall
    for text in ("Москва 2024", "東京の天気"):  # other letters than those of Latin are words too
        target = [EvalExample(text, text)]
        assert task.score([text], target)["rouge1"] == 100
        assert task.score(["2025"], target)["rouge1"] == 0


def test_the_name_of_what_is_documented_is_a_baseline_and_the_text_begins_below_it(tiny):
    task = make_task(schema.SummarizeConfig(max_target_tokens=8), tiny("task=summarize").model)
    examples = [
        EvalExample(f"{header}\nOpen it. Now.", "Open it.")
        for header in ("zip.ZipFile.openFile(mode='r')", "read_csv", "lib-c++-dev")
    ]
    baselines = task.baselines(examples)
    assert baselines["words of the name"] == ["open file", "read csv", "lib c dev"]
    assert baselines["words of class and name"][0] == "zip zip file open file"
    with_arguments = baselines["words of the name, first 4 words of the arguments"]
    assert with_arguments == ["open file mode r", "read csv", "lib c dev"]
    with_text = baselines["words of class and name, first 6 words of the text"]
    assert with_text[1] == "read csv Open it. Now."
    assert baselines["first sentence of the text"] == ["Open it."] * 3


def test_answers_are_held_against_their_text_and_against_each_other():
    outputs = ["Reads a file.", "reads  a file.", "Write green files."]
    examples = [EvalExample("The file is read.", "")] * 3
    assert Support().score_each(outputs, examples)["support"] == [1, 1, pytest.approx(1 / 3)]
    assert Repeated().score_all(outputs, examples)["repeated"] == pytest.approx(2 / 3)
    assert Repeated().score_all(["one", "two"], examples[:2])["repeated"] == 0


def test_candidates_are_weighed_by_the_words_that_their_text_has():
    tokenizer = build(schema.ByteConfig(), [])
    config = compose.compose_config(["task=summarize", "tokenizer=byte", "model=nano"])
    task = make_task(config.task, config.model)
    weigh = task.answerer.candidate_weight(tokenizer)
    prompt = task.layout.prompt("open(path)\nOpens the file.", tokenizer)
    answers = ["Opens files.", "Opens windows.", "Closes windows.", "It is.", ""]
    assert [weigh(prompt, tokenizer.encode(answer)) for answer in answers] == [1, 0.5, 0, 0, 0]


def test_a_run_tells_intervals_and_searches_with_beams(tiny, pairs_file, capsys):
    folder = run(
        tiny(
            "task=summarize",
            "data=files",
            f"data.path={pairs_file}",
            "task.max_target_tokens=8",
            "task.mbr_samples=1",
            "task.num_beams=2",
            "task.no_repeat_ngram=2",
            "task.test_examples=12",
            *TRAIN,
        )
    )
    metrics = folder.result()["metrics"]
    assert metrics["test/low/rouge1"] <= metrics["test/rouge1"] <= metrics["test/high/rouge1"]
    assert "95 %" in capsys.readouterr().out


def test_an_answer_does_not_depend_on_what_is_asked_beside_it(tiny):
    config = tiny("task=summarize", "task.mbr_samples=4", "task.max_target_tokens=8")
    tokenizer = build(schema.ByteConfig(), [])
    model, task = build_model(config, tokenizer.vocab_size), make_task(config.task, config.model)
    texts = [TEXT, "A bird falls.", TEXT[:40]]
    assert task.answerer.answer(model, tokenizer, texts) == [
        task.answerer.answer(model, tokenizer, [text])[0] for text in texts
    ]
    with pytest.raises(
        UserError,
        match=r"task\.num_beams=4 searches, task\.mbr_samples=32 samples: one of them must be 1",
    ):
        make_task(
            compose.compose_config(
                ["task=summarize", "task.num_beams=4", "task.mbr_samples=32"]
            ).task,
            schema.ModelConfig(context=256),
        )


def test_pretraining_puts_the_first_sentence_of_some_documents_last(tiny, own_folder):
    rng = random.Random(0)
    rows = [
        {"text": f"Sentence {i} comes first. {sentence(rng, 24)} Its end is {i:04}"}
        for i in range(200)
    ]
    (own_folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tiny(
        "task=pretrain",
        "data=files",
        "data.path=texts.jsonl",
        "tokenizer=byte",
        "task.lead_last_fraction=0.5",
        "model.context=64",
    )
    store = prepare(config).store
    ends = (store.tokens("train")[:] == store.tokenizer.eos).sum()
    gaps = (store.tokens("train")[:] == store.tokenizer.sep).sum()
    assert 0.3 < gaps / ends < 0.7
    assert (store.tokens("val")[:] == store.tokenizer.sep).sum() == 0
    text = store.tokenizer.decode(store.tokens("train")[:].tolist())
    assert "comes first." in text
    assert (
        sum(f"Its end is {i:04}" in text for i in range(200))
        == store.meta["splits"]["train"]["sequences"]
    )


@pytest.mark.parametrize(
    ("words", "init"),
    [
        (["task=summarize"], "base"),
        (["task=extract"], "base"),
        (["task=summarize", "init=scratch"], None),
        (["task=summarize", "model=nano"], None),
        (["task=summarize", "tokenizer=byte"], None),
        (["task=summarize", "model.arch=encoder_decoder"], None),
        (["task=summarize", "model.arch=prefix", "model.context=512"], "base"),
        (["task=summarize", "data.unseen=[wandb]"], "base"),
        (["task=summarize", "data.unseen=[torch]"], None),
        (["task=summarize", "data.val_fraction=0"], "base"),
        (["task=summarize", "data.test_fraction=0.1"], None),
        (["task=translate"], None),
    ],
)
def test_which_configs_start_from_base(words, init):
    assert compose.compose_config(words).init == init


def test_base_is_not_tested_on_what_it_has_learned():
    with pytest.raises(
        UserError, match=r"data\.split=exact: would test on texts that base was trained on"
    ):
        compose.compose_config(["task=pretrain", "init=base", "data.split=exact"])
