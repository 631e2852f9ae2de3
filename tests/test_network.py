import socket

import pytest

from gptexp import network
from gptexp.errors import UserError


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in network.PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_a_server_is_reachable_while_it_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/path"
        assert network.is_reachable(url)
    assert not network.is_reachable(url)


def test_a_proxy_counts_as_a_network(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert network.is_reachable("https://nowhere.invalid")


def test_text_that_is_no_address_is_refused():
    with pytest.raises(UserError, match="must begin with https://"):
        network.is_reachable("nowhere")
