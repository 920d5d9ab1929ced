"""Addresses of devices, and connections to them."""

from __future__ import annotations

import pytest

from obert_edge.errors import DeviceError, UsageError
from obert_edge.host.remote.ssh import Address, Connection


@pytest.mark.parametrize(
    ("text", "login", "file"),
    [
        ("ssh://pi@raspberrypi", "pi@raspberrypi", "model.oeb"),
        ("ssh://raspberrypi.local", "raspberrypi.local", "model.oeb"),
        ("ssh://pi@10.0.0.7:bundles/", "pi@10.0.0.7", "bundles/model.oeb"),
        ("ssh://pi@pi:other.oeb", "pi@pi", "other.oeb"),
        ("ssh://pi@pi:/srv/a b/m.oeb", "pi@pi", "/srv/a b/m.oeb"),
        ("ssh://pi@pi:~/models/", "pi@pi", "models/model.oeb"),
        ("ssh://pi@pi:~", "pi@pi", "model.oeb"),
    ],
)
def test_an_address_names_a_login_and_a_place(text, login, file):
    address = Address.parse(text)
    assert (address.login, address.file("model.oeb")) == (login, file)


@pytest.mark.parametrize(
    "text",
    [
        "pi@raspberrypi",
        "ssh://",
        "ssh://pi@",
        "http://pi",
        "ssh://-oProxyCommand=x",
        "ssh://a b",
        "ssh://pi@-oProxyCommand=x",
        "ssh://-l@pi",
    ],
)
def test_anything_else_is_no_address(text):
    with pytest.raises(UsageError, match="ssh://user@host"):
        Address.parse(text)


def test_a_port_is_not_taken_for_a_path():
    with pytest.raises(UsageError, match="no port.*\n.*-p 2222"):
        Address.parse("ssh://pi@raspberrypi:2222")


def test_commands_arrive_as_they_are_given(device):
    words = ["sh", "-c", 'printf "%s|" "$@"', "x", "a b", "$HOME", "it's", ""]
    with Connection(Address.parse("ssh://device")) as connection:
        answer = connection.run(words)
        assert connection.run(["sh", "-c", "echo no >&2; exit 7"]) == (7, "", "no")
    assert answer.output == "a b|$HOME|it's||"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("gone", "Connection refused"),
        ("stranger", "ssh-copy-id"),
        ("no-such-host.invalid", "no-such-host.invalid"),
    ],
)
def test_a_device_that_cannot_be_reached_is_named_with_the_reason(device, host, message):
    with pytest.raises(DeviceError, match="cannot be reached") as caught:
        Connection(Address.parse(f"ssh://{host}"))
    assert message in str(caught.value)


def test_a_device_of_another_key_is_not_talked_to(device):
    known = device.folder / "known_hosts"
    known.write_text(known.read_text().split()[0] + " " + (device.folder / "user_key.pub").read_text())
    with pytest.raises(DeviceError, match="key"):
        Connection(Address.parse("ssh://device"))


def test_no_ssh_command_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="openssh-client"):
        Connection(Address.parse("ssh://device"))
