"""Secrets are known by their names, and are not shown.

What lives here: which names count, and the secrets inside URLs. What does not: stored values
(`test_admin_display.py`). Run by pytest.
"""

from __future__ import annotations

import pytest

from embedded_tasks.masking import MASK, Masking

is_secret, masked = Masking().is_secret, Masking().text


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "Password",
        "db_password",
        "dbPassword",
        "PASSWORD_HASH",
        "userpassword",
        "passwd",
        "pwd",
        "passphrase",
        "token",
        "access_token",
        "refreshToken",
        "csrfmiddlewaretoken",
        "X-CSRF",
        "secret",
        "client_secret",
        "secrets",
        "Authorization",
        "proxy-authorization",
        "auth",
        "X-Auth",
        "basicAuth",
        "api_key",
        "apikey",
        "apiKey",
        "X-Api-Key",
        "XAPIKey",
        "private_key",
        "access-key-id",
        "Cookie",
        "set-cookie",
        "session_id",
        "credentials",
        "card_pin",
        "cvv",
        "otp",
        "jwt",
        "signature",
        "sentry_dsn",
        "ssn",
    ],
)
def test_a_name_of_a_secret_is_known_however_it_is_written(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "email",
        "user_id",
        "author",
        "authority",
        "shipping",
        "pinned",
        "spinner",
        "compass",
        "passenger",
        "bypass",
        "key",
        "monkey",
        "keyboard",
        "session",
        "signal",
        "design",
        "assignment",
        "potpourri",
        "dsname",
        "order",
        "🔑",
    ],
)
def test_other_names_are_not(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://ann:pw@db/shop", "postgres://ann:***@db/shop"),
        ("postgres://ann:p:w@db/shop", "postgres://ann:***@db/shop"),
        ("redis://:pw@cache", "redis://:***@cache"),
        (
            "no postgres://ann:pw@db, no redis://:pw@c",
            "no postgres://ann:***@db, no redis://:***@c",
        ),
        ("https://x/y?token=abc&page=2", "https://x/y?token=***&page=2"),
        ("https://x/y?page=2&api_key=a%20b#top", "https://x/y?page=2&api_key=***#top"),
        ("https://x/y?X-Amz-Signature=abc", "https://x/y?X-Amz-Signature=***"),
        ("https://x:8000/y?page=2", "https://x:8000/y?page=2"),
        ("https://ann@x/y", "https://ann@x/y"),
        ("mail ann@x: a?page=b", "mail ann@x: a?page=b"),
    ],
)
def test_the_secrets_in_a_url_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_long_text_costs_little() -> None:
    # Quadratic time would take minutes here.
    for text in ("://" * 300_000, "://a:" * 200_000, "://?" + "a" * 1_000_000, "?://" * 200_000):
        assert MASK not in masked(text)
