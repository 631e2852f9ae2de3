from pathlib import Path

from gptexp.config import compose
from gptexp.settings import settings_page


def test_the_page_of_settings_is_that_of_the_schema():
    page = Path(__file__).parents[1] / "docs" / "settings.md"
    compose.prepare_hydra([])
    assert page.read_text("utf8") == settings_page(), "python -m gptexp.settings > docs/settings.md"
