import json
import unicodedata

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from gptexp.config import schema
from gptexp.data import tokenizers
from gptexp.data.account import DataAccount
from gptexp.data.conversation import Message, dump_messages
from gptexp.data.corpora import Example
from gptexp.data.lost_text import LostText
from gptexp.data.token_store import Cut, TokenizedExample
from gptexp.data.tokenizers import Tokenizer
from gptexp.errors import UserError
from gptexp.tasks.prepare import prepare

TEXT = "on day 3 the mill of velden packed pears, and the baker of the mill came"
METASPACE = {"pre_tokenizer": pre_tokenizers.Metaspace(), "decoder": decoders.Metaspace()}


def train(model, trainer, **parts) -> Tokenizer:
    backend = Backend(model)
    for name, part in parts.items():
        setattr(backend, name, part)
    backend.train_from_iterator([TEXT] * 20, trainer)
    return Tokenizer(backend)


@pytest.fixture(scope="module")
def by_name() -> dict[str, Tokenizer]:
    special = ["[UNK]", "[CLS]", "[SEP]"]
    wordpiece = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=special, show_progress=False
    )
    unigram = trainers.UnigramTrainer(
        vocab_size=60,
        special_tokens=["<unk>", "<s>", "</s>"],
        unk_token="<unk>",
        show_progress=False,
    )
    bpe = trainers.BpeTrainer(vocab_size=60, show_progress=False)
    nfc = tokenizers.build(schema.ByteConfig(), []).backend
    nfc.normalizer = normalizers.NFC()
    return {
        "char": tokenizers.build(schema.CharConfig(), [TEXT]),
        "byte": tokenizers.build(schema.ByteConfig(), []),
        "bpe": tokenizers.build(schema.BpeConfig(vocab_size=300), [TEXT]),
        "bpe without unknown token": train(models.BPE(), bpe, **METASPACE),
        "unigram": train(models.Unigram(), unigram, **METASPACE),
        "wordpiece": train(
            models.WordPiece(unk_token="[UNK]"),
            wordpiece,
            normalizer=normalizers.BertNormalizer(),
            pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
            decoder=decoders.WordPiece(),
        ),
        "nfc": Tokenizer(nfc),
    }


@pytest.mark.parametrize(
    ("name", "text", "sentences"),
    [
        ("char", "on day 3", []),
        ("char", "ON day?", ["3 characters without a token: '?' 1, 'N' 1, 'O' 1"]),
        ("byte", "Привет 😀 мир\x00\r\n", []),
        ("bpe", "ON <|sep|> day\t\n ½", []),
        ("bpe without unknown token", "on день", ["without a token: 'д' 1, 'е' 1, 'н' 1, 'ь' 1"]),
        ("unigram", "on the mill, Ж", ["1 character without a token: 'Ж' 1"]),
        ("unigram", "on the", []),
        ("wordpiece", "The MILL", ["changed by the tokenizer: 'L' to 'l' 2"]),
        ("wordpiece", "mill\n\nday", ["2 spaces or line ends lost: line end 2"]),
        ("wordpiece", "the millж", ["'ж' 1", "lost in their words, for example in 'millж'"]),
        ("nfc", unicodedata.normalize("NFC", "Müller"), []),
        ("nfc", unicodedata.normalize("NFD", "Müller"), ["composed ones (NFC)"]),
    ],
)
def test_text_that_tokens_do_not_give_back_is_described(by_name, name, text, sentences):
    lost = LostText()
    lost.add(text, by_name[name])
    described = lost.sentences()
    assert bool(described) == bool(sentences)
    assert all(sentence in " ".join(described) for sentence in sentences), described


@pytest.mark.parametrize("name", ["char", "unigram", "wordpiece", "bpe without unknown token"])
def test_tokens_that_the_layout_computed_are_not_computed_again(by_name, name, monkeypatch):
    tokenizer, text = by_name[name], "The MILL of день"
    expected = tokenizer.count_lost(text)
    with tokenizer.remember() as tokens_of:
        tokenizer.encode_batch([text])
    monkeypatch.setattr(tokenizer, "encode", None)
    assert tokenizer.count_lost(text, tokens_of[text]) == expected
    assert expected


@pytest.mark.parametrize(
    "name", ["char", "byte", "bpe", "bpe without unknown token", "unigram", "wordpiece", "nfc"]
)
def test_a_special_token_in_a_text_is_encoded_as_text(by_name, name):
    tokenizer = by_name[name]
    special = {tokenizer.eos, tokenizer.pad, tokenizer.sep, tokenizer.mask}
    special |= {tokenizer.backend.token_to_id(token) for token in ("</s>", "<s>", "[SEP]", "[CLS]")}
    for text in ("the </s> mill [SEP]", "<|endoftext|>", "a<|mask|><|sep|>b", "</s></s>", "[CLS]"):
        tokens, offsets = tokenizer.encode_with_offsets(text)
        assert special.isdisjoint(tokens)
        assert tokens == tokenizer.encode(text) == tokenizer.encode_batch([text])[0]
        assert all(0 <= start <= end <= len(text) for start, end in offsets)


def add(
    account: DataAccount,
    split: str,
    source: str,
    target: str,
    tokenizer,
    corpus_notes=(),
    **encoded,
) -> int:
    example = Example(
        {"source": source, "target": target}, where="x.csv, line 2", notes=corpus_notes
    )
    account.examples += 1
    sequence = TokenizedExample([1], **encoded)
    return account.add(example, sequence, split, ("source", "target"), ("target",), tokenizer, {})


def test_an_account_survives_its_file(by_name):
    account = DataAccount()
    cut = Cut("target", 3, "task.max_target_tokens=5")
    assert add(account, "train", "the mill", "Day", by_name["char"], cuts=(cut,)) == 1
    add(
        account,
        "train",
        "день <|sep|>",
        "mill",
        by_name["char"],
        notes=(("terms are absent", "x"),),
        corpus_notes=("only the first text is used",),
    )
    add(account, "val", "a", "ж", by_name["char"])
    account.examples += 1
    account.leave_out("the field 'target' is empty", "x.csv, line 9")
    account.add_groups(np.array([0, 0, 2]), np.array([0, 0, 1], np.uint8), ("train", "val"))
    account.finish(("source", "target"))
    again = DataAccount.from_json(json.loads(json.dumps(account.as_json())))
    assert again.table() == account.table()
    assert again.summary() == account.summary()
    for text in (
        "4 examples; used: train 2, val 1",
        "1: the field 'target' is empty (first: x.csv, line 9)",
        "target of 1 example, by 3 tokens on average and 3 at most: task.max_target_tokens=5",
        "1 terms are absent, for example 'x'",
        "1 example: only the first text is used (first: x.csv, line 2)",
        "without a token: '|' 2, '<' 1, '>' 1, 'D' 1, 'д' 1 and 4 others",
        "1 text: <|sep|> is read as text",
        "2 examples share their text, source or image, or nearly so: 1 group",
        "the 2 examples of the train split are all alike",
    ):
        assert text in account.table()
    assert "3 of 4 examples used (1 left out; target of 1 cut" in account.summary()


@pytest.mark.parametrize(
    ("train_targets", "val_targets", "remark"),
    [
        (["yes", "no"] * 4, ["no", "no"], "every target of the val split is 'no'"),
        (["yes"] * 8, ["no", "yes"], "every target of the train split is 'yes'"),
        (["a", "b"] * 4, ["c", "d"], "no target of the val split occurs in the train split"),
        ([str(i) for i in range(8)], ["one", "two"], ""),  # no labels: each target is another
        ([str(i) for i in range(99)], ["one", "two"], ""),
        (["yes", "no"] * 4, ["no"], ""),
    ],
)
def test_a_split_of_one_label_is_named(by_name, train_targets, val_targets, remark):
    account = DataAccount()
    for split, targets in (("train", train_targets), ("val", val_targets)):
        for target in targets:
            add(account, split, "the mill", target, by_name["byte"])
    account.finish(("source", "target"))
    assert account.remarks == ([remark] if remark else [])


def test_rejected_answers_may_all_be_the_same(by_name):
    tokenizer, fields = by_name["byte"], ("prompt", "chosen", "rejected")
    for chosen, remarks in (
        (["yes", "no"], []),
        (["no", "no"], ["every chosen answer of the train split is 'no'"]),
    ):
        account = DataAccount()
        for answer in chosen:
            texts = dict(zip(fields, ("Hi?", answer, "nope"), strict=True))
            example = Example({k: dump_messages([Message("user", v)]) for k, v in texts.items()})
            encoded = TokenizedExample([1])
            account.add(example, encoded, "train", fields, (), tokenizer, {})
        account.finish(fields)
        assert account.remarks == remarks


@pytest.mark.parametrize(
    ("name", "source", "target", "message"),
    [
        (
            "char",
            "Привет мир",
            "day",
            "knows no letter of the field 'source' in the train split ('и' 2, 'р' 2",
        ),
        ("wordpiece", "the mill", "日本", "knows no letter of the field 'target'"),
        ("bpe without unknown token", "the mill", "ЖЖ", "knows no letter of the field 'target'"),
        ("wordpiece", "THE MILL", "ж DAY", ""),  # letters that are changed are known
        ("char", "№ 3", "day", ""),  # a sign that is known, where there are no letters
    ],
)
def test_a_field_of_which_no_letter_is_known_is_refused(by_name, name, source, target, message):
    account = DataAccount()
    add(account, "train", source, target, by_name[name])
    if not message:
        account.finish(("source", "target"))
        return
    with pytest.raises(UserError) as refused:
        account.finish(("source", "target"))
    assert message in str(refused.value)


def test_a_held_out_split_of_which_no_letter_is_known_is_named(by_name):
    account = DataAccount()
    add(account, "train", "the mill", "day", by_name["char"])
    add(account, "test", "мир 3", "day", by_name["char"])
    account.finish(("source", "target"))
    expected = "the tokenizer knows no letter of the field 'source' in the test split"
    assert account.remarks == [expected]


def test_prompts_that_a_cut_makes_equal_are_named(by_name):
    account = DataAccount()
    cut = {"tokens": [5, 6, 1], "prefix": 2, "cuts": (Cut("source", 9, "model.context=3"),)}
    for split, last in (("train", [7, 8]), ("val", [7, 9])):
        for number, token in enumerate(last):
            example = Example({"source": f"the mill {number}", "target": f"day {token}"})
            tokens = [5, 6 if split == "train" else number, token]
            encoded = TokenizedExample(**cut | {"tokens": tokens})
            fields = ("source", "target")
            account.add(example, encoded, split, fields, fields[1:], by_name["byte"], {})
    account.finish(("source", "target"))
    assert account.remarks == ["all prompts of the train split are the same once they are cut"]


def test_preparing_prints_and_keeps_the_account(tiny, pairs_file, capsys):
    rows = pairs_file.read_text().splitlines()
    pairs_file.write_text("\n".join([*rows, '{"source": "nothing", "target": " "}']))
    config = tiny(
        "task=translate", "data=files", f"data.path={pairs_file}", "task.max_target_tokens=2"
    )
    store = prepare(config).store
    assert store.is_new
    printed = capsys.readouterr().err
    assert store.account.table() in printed
    assert "the field 'target' is empty" in printed
    assert "task.max_target_tokens=2" in printed
    account = store.meta["account"]
    assert account["examples"] == len(rows) + 1
    assert account["cuts"]["target"]["setting"] == "task.max_target_tokens=2"
    assert not prepare(config).store.is_new


def test_the_accounts_of_two_parts_are_that_of_both():
    tokenizer = train(
        models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(special_tokens=["[UNK]"])
    )
    examples = [
        Example({"text": "the mill of ☃ packed"}, notes=("a note",), where="a, line 1"),
        Example({"text": "the <|sep|> pears ☃ ☂"}, notes=("a note",), where="b, line 1"),
    ]

    def account_of(examples):
        account = DataAccount(len(examples) + 1)
        account.leave_out("it is empty", examples[-1].where)
        for example in examples:
            encoded = TokenizedExample(
                tokenizer.encode(example.fields["text"]),
                cuts=(Cut("text", len(example.fields["text"]), "model.context=8"),),
                notes=(("long words", "velden"),),
            )
            account.add(example, encoded, "train", ("text",), ("text",), tokenizer, {})
        return account

    both, merged = account_of(examples), account_of(examples[:1])
    merged.merge(account_of(examples[1:]))
    both.leave_out("it is empty", "")
    both.examples += 1
    both.left_out["it is empty"].first = "a, line 1"
    assert merged.as_json() == both.as_json()
    assert merged.rows() == both.rows()
