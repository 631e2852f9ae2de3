"""What all verbs share."""

import io
import json

import pytest

from gptexp.cli import print_json


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_is_json_in_any_terminal(encoding, monkeypatch):
    out = io.BytesIO()
    monkeypatch.setattr(
        "sys.stdout", io.TextIOWrapper(out, encoding=encoding, errors="backslashreplace")
    )
    print_json({"outputs": ["März 日本"]})
    assert json.loads(out.getvalue()) == {"outputs": ["März 日本"]}
    assert ("März".encode() in out.getvalue()) == (encoding == "utf-8")
