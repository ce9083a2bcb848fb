"""What rules and configuration files may say, and what is told about those that cannot work."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from glasscache.asgi import QueryKey, Rule
from glasscache.cli._config import ProxyConfig, config_of
from glasscache.cli._describe import size, without_password
from glasscache.cli._parser import parser
from glasscache.cli._rules import SYNTAX, rule_of_text
from glasscache.errors import ConfigurationError
from glasscache.keys import Credential, JsonBody


def arguments(*words: str) -> argparse.Namespace:
    return parser().parse_args(["proxy", *words])


def test_a_path_alone_is_a_rule() -> None:
    assert rule_of_text("/*") == Rule("/*")


def test_all_that_a_rule_can_say_arrives() -> None:
    rule = rule_of_text(
        "/search methods=GET,POST ttl=60 stale-while-revalidate=30 stale_if_error=600.5 shared=on host=no "
        "headers=accept-language query-ignore=utm_source,utm_medium query-sort tags=docs,search statuses=200,404 "
        "negative-ttl=5 jitter=0.1 etag client-may-refresh max-loads=3 max-body=1000 body-timeout=2 name=search"
    )
    assert rule == Rule(
        "/search",
        methods=("GET", "POST"),
        ttl=60.0,
        stale_while_revalidate=30.0,
        stale_if_error=600.5,
        shared=True,
        host=False,
        headers=("accept-language",),
        query=QueryKey(ignore=("utm_source", "utm_medium"), sort=True),
        tags=("docs", "search"),
        statuses=(200, 404),
        negative_ttl=5.0,
        jitter=0.1,
        etag=True,
        client_may_refresh=True,
        max_loads=3,
        max_body=1000,
        body_timeout=2.0,
        name="search",
    )


def test_a_body_is_keyed_by_its_fields_and_a_tenant_is_a_header() -> None:
    rule = rule_of_text("/ask methods=POST ttl=60 json=question json-ignore=user tenant=authorization")
    assert isinstance(rule.key, JsonBody)
    assert (sorted(rule.key.fields), sorted(rule.key.ignored)) == (["question"], ["user"])
    assert isinstance(rule.tenant, Credential)


def test_every_example_of_the_help_is_a_rule() -> None:
    examples = re.findall(r"^  '(.+?)'", SYNTAX, re.MULTILINE)
    assert len(examples) == 7
    assert all(rule_of_text(example).path for example in examples)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "give a path"),
        ("'/a", "give a path"),
        ("/a tll=60", "did you mean ttl?"),
        ("/a xyz=60", "there are methods, ttl"),
        ("/a ttl=60 ttl=70", "ttl is said twice"),
        ("/a ttl=soon", "ttl='soon': give a number of seconds"),
        ("/a ttl=-1", "give a number of seconds"),
        ("/a ttl=inf", "give a number of seconds"),
        ("/a ttl", "ttl=True: give a number of seconds"),
        ("/a max-loads=many", "give a whole number"),
        ("/a max-loads", "give a whole number"),
        ("/a max-loads=0", "give 1 or more"),
        ("/a shared=perhaps", "give yes or no"),
        ("/a headers=", "give one or more words"),
        ("/a headers", "give one or more words"),
        ("/a statuses=ok", "give one or more statuses"),
        ("/a statuses", "give one or more statuses"),
        ("/a name=", "give a word"),
        ("/a methods=PUT", "only GET, HEAD, POST and QUERY"),
        ("/a tenant=authorization shared", "give tenant= or shared=True"),
        ("a", "a path starts with '/'"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_with_its_remedy(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        rule_of_text(text)


FILE = """
upstream = "http://127.0.0.1:8000"
port = 9000
read_timeout = 5
trust_forwarded = true

[[rules]]
path = "/search"
ttl = 60
tags = ["docs"]
shared = true

[[rules]]
path = "/*"
"""


def test_a_file_says_what_the_arguments_do_not(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text(FILE, "utf-8")
    config = config_of(
        arguments("--config", str(file), "--port", "0", "--rule", "/first ttl=1", "--no-trust-forwarded")
    )
    assert config == ProxyConfig(
        upstream="http://127.0.0.1:8000",
        port=0,
        read_timeout=5,
        trust_forwarded=False,
        rules=(Rule("/first", ttl=1.0), Rule("/search", ttl=60.0, tags=("docs",), shared=True), Rule("/*")),
    )


def test_a_file_may_spell_its_names_as_the_arguments_are_spelt(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text("access-log = true\nread-timeout = 5\n[[rules]]\npath = '/a'\nquery-ignore = ['b']\n", "utf-8")
    rule = Rule("/a", query=QueryKey(ignore=("b",)))
    assert config_of(arguments("--config", str(file))) == ProxyConfig(access_log=True, read_timeout=5, rules=(rule,))


def test_without_a_file_the_arguments_say_all() -> None:
    config = config_of(arguments("--upstream", "http://a", "--ca", "ca.pem", "--access-log"))
    assert config == ProxyConfig(upstream="http://a", ca="ca.pem", access_log=True)
    assert config_of(arguments()) == ProxyConfig()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("upstream = ", "is no TOML"),
        ("upstreem = 'x'", "did you mean upstream?"),
        ("xyz = 'x'", "there are upstream, host, port"),
        ("upstream = 8000", "upstream = 8000: that has to be str"),
        ("port = true", "port = True: that has to be int"),
        ("rules = 'x'", "write each as a table"),
        ("[[rules]]\nttl = 60", "has no path"),
        ("[[rules]]\npath = '/a'\nttl = true", "ttl=True: give a number of seconds"),
        ("[[rules]]\npath = '/a'\ntags = [1]", "give one or more words"),
        ("[[rules]]\npath = '/a'\nshared = 1", "give yes or no"),
    ],
)
def test_a_file_that_cannot_work_is_refused_with_its_name(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=re.escape(told)) as refused:
        config_of(arguments("--config", str(file)))
    assert str(file) in str(refused.value)


def test_a_file_that_is_not_there_is_refused_with_its_name() -> None:
    with pytest.raises(ConfigurationError, match=r"config 'nowhere.toml': No such file"):
        config_of(arguments("--config", "nowhere.toml"))


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="port 70000: give a number from 1 to 65535"):
        config_of(arguments("--port", "70000"))


def test_certificates_that_are_none_are_refused_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate", "utf-8")
    with pytest.raises(ConfigurationError, match="give a file of PEM certificates"):
        ProxyConfig(ca=str(tmp_path / "ca.pem")).tls()
    assert ProxyConfig().tls() is None


def test_sizes_are_said_as_people_say_them_and_passwords_never() -> None:
    assert [size(1), size(64 * 1024**2), size(1536), size(2**50)] == ["1 bytes", "64 MiB", "1.5 KiB", "1024 TiB"]
    assert without_password("redis://u:secret@host:1/0?password=x") == "redis://***@host:1/0"
    assert without_password("redis://host/0") == "redis://host/0"
