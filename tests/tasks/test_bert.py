import pytest
from conftest import TRAIN

from gptexp import GPT
from gptexp.data.tokenizers import EOS
from gptexp.errors import UserError
from gptexp.run import run
from gptexp.runs.timings import drop_timings

METRICS = {
    "mlm": {"test/perplexity", "test/baseline/loss"},
    "nsp": {"test/accuracy", "test/baseline/accuracy"},
    "bert": {"test/mask_loss", "test/accuracy", "test/baseline/accuracy"},
}


@pytest.mark.parametrize("task", METRICS)
def test_an_encoder_is_pretrained_on_one_process_as_on_two(task, tiny, text_file):
    words = [
        f"task={task}",
        "data=files",
        f"data.path={text_file}",
        "tokenizer=byte",
        "optim=adamw",
        *TRAIN,
        "task.test_examples=20",
    ]
    one, two = (
        run(tiny(*words, "outputs=one")),
        run(tiny(*words, "outputs=two", "trainer.devices=2")),
    )
    for a, b in zip(one.metrics(), two.metrics(), strict=True):
        assert drop_timings(a) == pytest.approx(drop_timings(b), abs=1e-5)
    assert set(one.result()["metrics"]) >= METRICS[task]
    assert one.result()["metrics"] == pytest.approx(two.result()["metrics"], abs=1e-4)
    model = GPT.from_pretrained(one.path)
    if task == "mlm":
        assert all(EOS not in sample["reference"] for sample in one.samples())
        [text] = model.task.answerer.answer(model.model, model.tokenizer, ["The <|mask|>ird falls"])
        assert text.startswith("The ")
        assert len(model.encode(text)) == len(model.encode("The bird falls"))
    else:
        [answer] = model.task.answerer.answer(
            model.model, model.tokenizer, ["The bird falls. <|sep|> The river runs."]
        )
        assert answer in ("next", "elsewhere")
        with pytest.raises(UserError, match="FIRST"):
            model.task.answerer.answer(model.model, model.tokenizer, ["One text alone."])
