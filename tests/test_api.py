import pytest
import torch

from gptexp import GPT
from gptexp.errors import UserError

FAST = [
    "model=nano",
    "model.layers=1",
    "model.d_model=32",
    "model.heads=2",
    "model.context=64",
    "tokenizer=byte",
    "trainer.max_steps=4",
    "trainer.global_batch_size=4",
    "trainer.progress=false",
    "logger=none",
    "task.samples=0",
]
SENTENCES = [
    "The river runs under the old bridge.",
    "A bird falls from the tree.",
    "Slow light over the house.",
]


class Listed(torch.utils.data.Dataset):
    """As in the tutorials: a length, and an item a number that is not checked."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number % len(self.items)]


def test_a_few_sentences_train_a_model_that_goes_on_from_a_text():
    model = GPT.from_dataset(SENTENCES, *FAST)
    texts = model.generate("The river", max_length=30, num_return_sequences=3)
    assert len(set(texts)) == 3
    assert all(text.startswith("The river") for text in texts)
    ids = model.encode("The river")
    assert (
        model.decode(model.generate(ids, max_length=30)[0])
        == model.generate("The river", max_length=30)[0]
    )
    before = model.model.embedding.weight.clone()
    folder = model.train_on_dataset(
        Listed(SENTENCES), "trainer.max_steps=2", "trainer.progress=false", "logger=none"
    )
    assert (folder / "result.json").is_file()
    assert not torch.equal(model.model.embedding.weight, before)
    assert GPT.from_pretrained(folder).generate("A bird") == model.generate("A bird")


@pytest.mark.parametrize(
    ("data", "method"),
    [
        ([("one two three", "two")] * 8, "summarize"),
        ([{"source": "one two", "terms": "two"}] * 8, "extract"),
    ],
)
def test_pairs_and_terms_train_the_task_that_they_are_for(data, method):
    model = GPT.from_dataset(data, *FAST, "task.max_target_tokens=8")
    assert isinstance(getattr(model, method)("one two three"), str)
    assert len(getattr(model, method)(["one", "two"])) == 2
    with pytest.raises(UserError, match=r"not to translate.*task=translate"):
        model.translate("one")


@pytest.mark.parametrize(
    ("data", "said"), [("corpus.txt", "one text"), ({"train": SENTENCES}, "dataset['train']")]
)
def test_what_is_no_list_of_texts_is_refused(data, said):
    with pytest.raises(UserError) as error:
        GPT.from_dataset(data, *FAST)
    assert said in str(error.value)


@pytest.mark.parametrize("data", [[], [torch.tensor([1, 2])], ["a text", ("a", "pair")]])
def test_data_that_is_no_text_is_refused(data):
    with pytest.raises(UserError, match="give texts"):
        GPT.from_dataset(data, *FAST)
