"""Text to sound: spectra there and back, what is learned can be understood, and recordings of the user's are read."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import TRAIN

from gptexp import GPT, generate
from gptexp.config import compose
from gptexp.errors import UserError
from gptexp.model.features import CONTINUE
from gptexp.run import run
from gptexp.tasks.prepare import prepare
from gptexp.tasks.speech import recognizer, spectrogram
from gptexp.tasks.speech.audio import RATE, Audio
from gptexp.tasks.speech.dataset import STOP
from gptexp.tasks.speech.hub_recordings import HubRecordings
from gptexp.tasks.speech.metrics import distortion
from gptexp.tasks.speech.settings import HubRecordingsConfig

SMALL = [
    "task=speak",
    "model=nano",
    "model.layers=2",
    "model.d_model=64",
    "model.heads=2",
    "model.context=160",
    "logger=none",
    "data.examples=120",
    "data.voices=[en-us]",
    "task.test_examples=6",
    "task.samples=2",
    "data.val_fraction=0.1",
    "data.test_fraction=0.1",
]


@pytest.fixture(autouse=True)
def short_lessons(monkeypatch):
    monkeypatch.setattr(recognizer, "STEPS", 15)


def tone(hertz, seconds=0.5, rate=RATE):
    """With overtones, as a voice has."""
    time = np.arange(int(seconds * rate)) / rate
    return (
        sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, 6)).astype(np.float32) * 0.2
    )


def test_sound_survives_its_levels():
    there = Audio.read(np.concatenate([tone(300), tone(900), tone(2000)]))
    back = spectrogram.requantize(there)
    assert abs(back.seconds - there.seconds) < 0.03
    assert distortion(there, there) == 0
    other = Audio.read(np.concatenate([tone(2000), tone(300), tone(900)]))
    assert distortion(back, there) < distortion(other, there)


def test_a_slower_sound_is_near_and_the_path_is_the_cheapest():
    rng = np.random.default_rng(0)
    once = Audio.read(rng.normal(size=4000).astype(np.float32) * 0.2)
    slower = Audio.read(np.repeat(once.floats, 2))
    first, second = spectrogram.mfcc(once), spectrogram.mfcc(slower)
    cost = np.full((len(first) + 1, len(second) + 1), np.inf)
    cost[0, 0] = 0
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            apart = np.sqrt(2 * np.square(one - other).sum()) * 10 / np.log(10)
            cost[i + 1, j + 1] = apart + min(cost[i, j], cost[i, j + 1], cost[i + 1, j])
    expected = cost[-1, -1] / max(len(first), len(second))
    assert distortion(once, slower) == pytest.approx(expected, rel=1e-4)


def test_the_frames_of_a_sound_are_learned_each_from_those_before():
    prepared = prepare(compose.compose_config(SMALL))
    task, store = prepared.task, prepared.store
    learned = task.layout.dataset(store, "train", 1)
    batch = learned.batch(np.arange(5), 0, np.arange(5))
    rows = store.index("train")["rows"][:5]
    assert (batch.tokens < 0).sum(dim=1).tolist() == rows.tolist()
    assert (batch.targets == CONTINUE).sum(dim=1).tolist() == rows.tolist()
    assert (batch.targets == STOP).sum(dim=1).tolist() == [1] * 5
    assert batch.counts.targets == int((batch.targets >= 0).sum())
    assert not batch.masked_rows.equal(learned.batch(np.arange(5), 1, np.arange(5)).masked_rows)
    part = learned.batch(
        np.arange(1, 3), 0, np.arange(5)
    ).masked_rows  # the same whatever stands beside it
    assert batch.masked_rows[1:3, : part.shape[1]].equal(part)
    assert (
        task.layout.dataset(store, "val", None).batch(np.arange(2), 0, np.arange(2)).masked_rows
        is None
    )
    again = prepare(
        compose.compose_config([*SMALL, "task.frames_per_step=2", "model.context=256"])
    )  # the sound is kept, byte for byte
    assert np.array_equal(
        next(again.store.examples("test"))["media"], next(store.examples("test"))["media"]
    )


def test_a_text_is_spoken_to_a_file(monkeypatch, capsys):
    folder = run(compose.compose_config([*SMALL, *TRAIN]))
    metrics = folder.result()["metrics"]
    assert {
        "test/word_error_rate",
        "test/recordings/word_error_rate",
        "test/quantised/distortion",
        "test/duration_ratio",
        "test/baseline/distortion",
    } <= set(metrics)
    sample = folder.samples()[0]
    assert Audio.read(folder.path / sample["reference"]).seconds > 0.3
    assert (folder.path / sample["spectrograms"]).is_file()
    monkeypatch.setattr(
        "sys.argv", ["generate", str(folder.path), "four hundred", "--out", "speech.flac"]
    )
    generate.main()
    assert capsys.readouterr().out.strip().endswith("speech.flac")
    model = GPT.from_pretrained(folder.path)
    assert np.array_equal(
        model.speak("four hundred").samples, soundfile.read("speech.flac", dtype="int16")[0]
    )
    assert np.array_equal(
        model.speak("four hundred", voice="en-us").samples, model.speak("four hundred").samples
    )
    for text, reason in (
        ("four @", "has never seen @"),
        ("  ", "no text to speak"),
        ("a" * 159, "leaves no room"),
    ):
        with pytest.raises(UserError, match=reason):
            model.speak(text)
    with pytest.raises(UserError, match="voice=sun"):
        model.speak("four", voice="sun")
    with pytest.raises(UserError, match="generates no text; it was trained for speak"):
        model.generate("four hundred")
    with pytest.raises(UserError, match="was trained for speak"):
        model.caption(np.zeros((8, 8, 3), np.uint8))


def test_the_users_own_recordings(own_folder):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        rate, channels = ((8000, 1), (44100, 2), (22050, 1))[number % 3]
        sound = tone(200 + 20 * number, 0.3, rate)[:, None].repeat(channels, axis=1)
        suffix, subtype = (("wav", "PCM_24"), ("flac", "PCM_16"))[number % 2]
        soundfile.write(own_folder / f"{number}.{suffix}", sound, rate, subtype=subtype)
        rows.append(
            f"{number}.{suffix},{'low' if number < 30 else 'high'} {number},{rng.choice(['ann', 'bob'])}"
        )
    (own_folder / "table.csv").write_text("audio,text,voice\n" + "\n".join(rows))
    words = [word for word in SMALL if not word.startswith("data.")]
    source = ["data=recordings", "data.path=table.csv"]
    folder = run(compose.compose_config([*words, *source, *TRAIN]))
    assert folder.read_record("data")["corpus"]["voices"] == ["ann", "bob"]
    assert 0.25 < Audio.read(own_folder / "1.flac").seconds < 0.35


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("voices", [["ann", "bob", None], None])
def test_a_data_set_with_a_column_of_recordings(voices, streaming, own_folder):
    import datasets

    folder = own_folder / "data"
    folder.mkdir()
    soundfile.write(own_folder / "a.wav", tone(300), RATE)
    sound = {"bytes": (own_folder / "a.wav").read_bytes(), "path": None}
    rows = {"recording": [sound, sound, None], "sentence": ["one", "two", "three"]}
    rows |= {"voice": voices} if voices else {}
    table = datasets.Dataset.from_dict(rows).cast_column("recording", datasets.Audio())
    table.to_parquet(folder / "train.parquet")
    names = {"audio": "recording", "text": "sentence"}
    config = HubRecordingsConfig(name=str(folder), fields=names, streaming=streaming)
    corpus = HubRecordings(config, ("voice", "text"), own_folder)
    assert corpus.describe()["voices"] == ["ann", "bob"][: len(voices or ())]
    *examples, last = corpus
    assert [example.fields["text"] for example in examples] == ["one", "two"]
    assert (examples[1].media() == Audio.read(own_folder / "a.wav").samples).all()
    assert last.left_out == "the field 'recording' is empty"
    wrong = replace(config, fields={**names, "voice": "speaker"})
    with pytest.raises(UserError, match="no field 'speaker'"):
        HubRecordings(wrong, ("voice", "text"), own_folder).describe()
    with pytest.raises(UserError, match="no audio in field 'sentence'"):
        HubRecordings(replace(config, fields={"audio": "sentence"}), ("voice", "text"), own_folder)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(8000, np.float32), "is silent"),
        (np.zeros(0, np.float32), "is empty"),
        (None, "not audio, or damaged"),
    ],
)
def test_sound_that_cannot_be_learned_from(samples, message, own_folder):
    if samples is None:
        (own_folder / "x.wav").write_text("no sound")
    else:
        soundfile.write(own_folder / "x.wav", samples, 16000)
    (own_folder / "table.jsonl").write_text(json.dumps({"audio": "x.wav", "text": "one"}) + "\n")
    words = [word for word in SMALL if not word.startswith("data.")]
    source = ["data=recordings", "data.path=.", "data.val_fraction=0", "data.test_fraction=0"]
    with pytest.raises(UserError, match=message):
        prepare(compose.compose_config([*words, *source]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.voices=[en-xx]"], "no voice 'en-xx'"),
        (["model.context=24"], "too long for model.context=24"),
    ],
)
def test_data_that_cannot_be_spoken_is_refused(words, message):
    with pytest.raises(UserError, match=message):
        prepare(compose.compose_config([*SMALL, *words]))
