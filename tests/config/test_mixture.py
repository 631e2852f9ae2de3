"""The settings of a mixture: complete for each source, and each mistake gets one message."""

from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from gptexp.config.compose import compose_config, load_config, save_config
from gptexp.config.run_id import run_id
from gptexp.config.schema import MixtureConfig
from gptexp.errors import UserError

MIXTURE = [
    "task=pretrain",
    "data=mixture",
    "data.sources.web.kind=files",
    "data.sources.web.path=data.txt",
    "data.sources.docs.kind=pydocs",
    "data.weights.web=0.7",
    "data.weights.docs=0.3",
]
LATER = "data.schedule=[{start: 0.5, weights: {web: 1}}, {start: 9000, weights: {web: 1, docs: 2}}]"


def test_each_source_has_all_of_its_settings(own_folder):
    config = compose_config(
        [*MIXTURE, "data.val_fraction=0.01", "data.sources.docs.limit=9", LATER]
    )
    sources = config.data.source_configs()
    assert sources["web"].path == str(own_folder / "data.txt")
    assert [source.val_fraction for source in sources.values()] == [0.01, 0.01]
    assert sources["docs"].limit == 9
    half = config.num_sequences // 2
    assert half < 9000
    assert config.data.phases(config) == [(0, (0.7, 0.3)), (half, (1, 0)), (9000, (1, 2))]
    save_config(config, own_folder / "config.yaml")
    loaded = load_config(own_folder / "config.yaml")
    assert loaded.data == config.data
    assert run_id(loaded) == run_id(config) != run_id(compose_config([*MIXTURE, LATER]))


def test_a_kind_is_no_setting_to_give():
    with pytest.raises(UserError, match=r"data\.kind=files: .* type data=files"):
        compose_config([*MIXTURE, "data.kind=files"])


@pytest.fixture(scope="module")
def composed():
    return compose_config(MIXTURE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("data.sources.web.pth=3", "data.sources.web.pth: data=files has no such setting. Did you"),
        ("data.sources.web.split=nearr", "data.sources.web.split=nearr: not known. Did you mean"),
        ("data.sources.web.val_fraction=2", "data.sources.web.val_fraction=2: must be at most 1"),
        (
            "data.sources.web.val_fraction=0.99",
            "data.sources.web.val_fraction=0.99, data.sources.web.test_fraction=0.05: their sum",
        ),
        (
            "data.sources.web.path=https://x/data.y",
            "data.sources.web.path=https://x/data.y: an addr",
        ),
        ("data.sources.c.path=x", "data.sources.c: has no kind; type data.sources.c.kind=NAME"),
        (
            "data.sources.c.kind=filez",
            "data.sources.c.kind=filez: not known. Did you mean 'files'?",
        ),
        ("data.sources.c.kind=mixture", "data.sources.c.kind=mixture: not known"),
        ("data.sources.c.kind=files", "data.sources.c.path must be given"),
        ("data.sources.c.kind=cldr", "data.weights: has no c; type data.weights.c=1"),
        ("data.sources.a/b.kind=cldr", "data.sources.a/b: the name of a source must be a word"),
        ("data.weights.wb=1", "there is no source wb. Did you mean 'web'? Sources: web, docs"),
        ("data.weights.web=-1", "the weight of web is -1; it must be at least 0"),
        ("data.weights.web=0 and data.weights.docs=0", "data.weights: a weight must be above 0"),
        (
            "data.schedule=[{start: 0.5, weights: {web: .nan}}]",
            "the weight of web is nan; it must be at least 0, and finite",
        ),
        ("data.limit=4", "limit a source, data.sources.NAME.limit=4"),
        ("data.schedule=[3]", "data.schedule: 3: must have start and weights: [{start: 0.8"),
        ("data.schedule=[{start: 2.5, weights: {web: 1}}]", "start must be a fraction of the run"),
        (
            "data.schedule=[{start: 9, weights: {web: 1}}, {start: 8, weights: {web: 1}}]",
            "and above the start before it",
        ),
    ],
)
def test_a_mistake_is_answered_with_what_to_type(words, message, composed):
    settings = OmegaConf.from_dotlist([*MIXTURE[2:], *words.split(" and ")])
    mixture = MixtureConfig(**OmegaConf.to_container(settings)["data"])

    def resolve_and_check():
        mixture.resolve(composed)
        mixture.check(replace(composed, data=mixture))

    with pytest.raises(UserError) as error:
        resolve_and_check()
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("task=summarize", "data=mixture: mixes texts for task=pretrain"),
        ("logger.log_data=store", "use logger.log_data=record"),
        ("data.weights.web=much", "data.weights.web=much: must be a number"),
    ],
)
def test_other_groups_have_to_fit(word, message):
    with pytest.raises(UserError) as error:
        compose_config([*MIXTURE, word])
    assert message in str(error.value)
