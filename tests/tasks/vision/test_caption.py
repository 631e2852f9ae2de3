"""Pictures to captions: what is drawn is learned, files of the user's are read, and a broken one is named."""

import json

import numpy as np
import pytest
from conftest import TRAIN
from PIL import Image

from gptexp import GPT, generate
from gptexp.config import compose
from gptexp.errors import UserError
from gptexp.run import run
from gptexp.tasks.prepare import prepare
from gptexp.tasks.task import make_task
from gptexp.tasks.vision.image_clip import ImageClip

SMALL = [
    "task=caption",
    "model=nano",
    "model.layers=2",
    "model.d_model=64",
    "model.heads=2",
    "model.context=64",
    "logger=none",
    "data.examples=600",
    "task.test_examples=8",
    "task.samples=2",
]


@pytest.mark.parametrize(
    ("words", "positions"),
    [
        ([], 16),
        (["data.level=mixed"], 16),
        (["data.level=video", "task.frames=4"], 64),
        (["data.level=video", "task.frames=4", "task.frames_per_patch=2"], 32),
    ],
)
def test_a_drawing_is_cut_into_patches_that_stand_before_its_caption(words, positions):
    config = compose.compose_config([*SMALL, "model.context=128", *words])
    prepared = prepare(config)
    task, store = prepared.task, prepared.store
    batch = task.layout.dataset(store, "train", 1).batch(np.arange(4), 0, np.arange(4))
    assert (batch.tokens < 0).sum(dim=1).tolist() == [positions] * 4
    assert (batch.tokens[:, :positions] < 0).all()
    assert batch.prefix.tolist() == [positions + 1] * 4
    targets = batch.targets[0][batch.targets[0] >= 0].tolist()
    assert len(targets) == int(store.index("train")["targets"][0])
    captions = {example["caption"] for example in store.examples("test")}
    assert captions.isdisjoint(example["caption"] for example in store.examples("val"))
    picture = next(task.layout.eval_examples(store, "unseen", 1)).input
    rows = task.layout.patches(picture)
    if positions == 16:  # the second patch is the second of the first row
        assert np.array_equal(rows[1].reshape(8, 8, 3), picture.frames[0, :8, 8:16])


def test_a_picture_is_captioned_by_every_door(own_folder, monkeypatch, capsys):
    folder = run(compose.compose_config([*SMALL, *TRAIN]))
    assert {"test/exact_match", "test/unseen/exact_match", "test/chrf"} <= set(
        folder.result()["metrics"]
    )
    kept = folder.path / folder.samples()[0]["input"]
    assert ImageClip.read(kept).frames.shape == (1, 32, 32, 3)

    monkeypatch.setattr("sys.argv", ["generate", str(folder.path), str(kept)])
    capsys.readouterr()
    generate.main()
    caption = capsys.readouterr().out.strip()
    model = GPT.from_pretrained(folder.path)
    assert (
        caption
        == folder.samples()[0]["output"]
        == model.caption(kept)
        == model.caption(Image.open(kept))
    )
    assert model.generate(str(kept), max_new_tokens=24) == [caption]
    assert model.generate(str(kept), max_new_tokens=24, num_return_sequences=2, num_beams=2)[0]
    assert model.generate(str(kept), max_new_tokens=24, mbr_samples=3)[0]
    with pytest.raises(UserError, match="none of GPT2LMHeadModel"):
        model.save_pretrained(own_folder / "exported")


def test_the_users_own_pictures(own_folder):
    rng = np.random.default_rng(0)
    colours = {"dark": 40, "grey": 120, "bright": 230}
    rows = []
    for number in range(120):
        name, value = list(colours.items())[number % 3]
        frame = np.full((20 + number % 7, 30, 3), value, np.uint8) + rng.integers(
            0, 20, (1, 1, 3), dtype=np.uint8
        )
        suffix = ("png", "jpg", "gif")[number // 3 % 3]
        ImageClip(frame[None]).save(own_folder / f"{number}.{suffix}")
        rows.append({"file": f"{number}.{suffix}", "title": f"a {name} picture number {number}"})
    (own_folder / "titles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [word for word in SMALL if not word.startswith("data.")]
    source = ["data=images", "data.path=.", "data.fields.image=file", "data.fields.caption=title"]
    longer = [
        "trainer.max_steps=80",
        "trainer.global_batch_size=16",
        "trainer.val_every=80",
        "task.test_examples=0",
    ]
    metrics = run(compose.compose_config([*words, *source, *TRAIN, *longer])).result()["metrics"]
    assert metrics["test/word_accuracy"] > metrics["test/baseline/word_accuracy"] + 0.05
    source += ["data.val_fraction=0", "data.test_fraction=0"]
    (own_folder / "7.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (own_folder / "titles.jsonl").write_text(json.dumps({"file": "7.jpg", "title": "x"}) + "\n")
    with pytest.raises(UserError, match=r"7\.jpg: is not an image, or damaged"):
        run(compose.compose_config([*words, *source, *TRAIN]))
    split = {"file": "no.png", "title": "x", "split": ["train"]}
    (own_folder / "titles.jsonl").write_text(json.dumps(split) + "\n")
    with pytest.raises(UserError, match=r"line 1: split '\['train'\]' is not known"):
        run(compose.compose_config([*words, *source, *TRAIN]))
    (own_folder / "titles.jsonl").write_text(json.dumps({"file": "no.png", "title": "x"}) + "\n")
    with pytest.raises(UserError, match="line 1: there is no file"):
        run(compose.compose_config([*words, *source, *TRAIN]))


def test_a_data_set_with_a_column_of_pictures(own_folder):
    datasets = pytest.importorskip("datasets")
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 255, (12, 9, 3), dtype=np.uint8)) for _ in range(40)
    ]
    columns = {"picture": pictures, "text": [f"noise {i}" for i in range(40)]}
    features = datasets.Features({"picture": datasets.Image(), "text": datasets.Value("string")})
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(own_folder / "hub")
    words = [word for word in SMALL if not word.startswith("data.")]
    source = [
        "data=hub_images",
        "data.name=hub",
        "data.fields.caption=text",
        "data.test_fraction=0.2",
    ]
    store = prepare(compose.compose_config([*words, *source, "data.fields.image=picture"])).store
    assert next(store.examples("test"))["media"].shape == (1, 12, 9, 3)
    with pytest.raises(UserError, match="no images in field 'text'"):
        prepare(compose.compose_config([*words, *source, "data.fields.image=text"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task.patch_size=5"], "must be a multiple of task.patch_size"),
        (
            ["task.frames=3", "task.frames_per_patch=2"],
            "must be a multiple of task.frames_per_patch",
        ),
        (["model.context=20"], "too short for 16 patches"),
        (
            ["data=cldr"],
            "needs image with caption. Use data=hub_images or data=images or data=scenes",
        ),
    ],
)
def test_settings_that_do_not_fit_together(words, message):
    kept = [word for word in SMALL if words != ["data=cldr"] or not word.startswith("data.")]
    config = compose.compose_config([*kept, *words])
    with pytest.raises(UserError, match=message):
        prepare(config)


@pytest.mark.parametrize("source", ["nothing.png", "text.txt", 3, np.zeros((4, 4), np.uint8)])
def test_anything_but_an_image_is_refused(source, own_folder):
    (own_folder / "text.txt").write_text("words")
    with pytest.raises(UserError, match="image"):
        ImageClip.read(source)


def test_a_clip_keeps_its_frames(own_folder):
    frames = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (0, 80, 160, 240)])
    ImageClip(frames).save(own_folder / "clip.gif")
    read = ImageClip.read(own_folder / "clip.gif")
    assert len(read) == 4
    assert np.abs(read.frames.astype(int) - frames).max() < 8
    assert read.resize_square(8, 2)[:, 0, 0, 0].tolist() == read.frames[[0, 3], 0, 0, 0].tolist()
    task = make_task(
        compose.compose_config(["task=caption", "model=nano"]).task,
        compose.compose_config(["model=nano"]).model,
    )
    assert task.layout.patches(read).shape == (16, 192)
