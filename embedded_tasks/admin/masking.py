"""Which names hold secrets, and what is shown in place of their values.

What lives here: the list of names, and the mask. What does not: where values come from
(`display`). Pure; called by whatever shows stored values.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MASK", "is_secret", "masked"]

MASK: Final = "***"
"""Stands where a secret was; its length tells nothing."""

# Found anywhere in a name, however its words are joined: dbPassword, X-Api-Key, sessionid.
_STEMS: Final = (
    "accesskey", "apikey", "authorization", "authkey", "connectionstring", "cookie", "creditcard",
    "credential", "csrf", "encryptionkey", "passcode", "passphrase", "passwd", "password",
    "privatekey", "secret", "sessionid", "sessionkey", "signature", "signingkey", "token",
)  # fmt: skip  # a list of words, not of lines
# Too short for that (a "pin" is in "shipping"): words of their own only.
_WORDS: Final = frozenset(
    {
        "auth",
        "bearer",
        "cvc",
        "cvv",
        "dsn",
        "jwt",
        "otp",
        "pass",
        "pin",
        "pwd",
        "sig",
        "ssn",
        "totp",
    }
)
_BETWEEN_WORDS: Final = re.compile(r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BESIDE_WORDS: Final = re.compile(r"[\W_]+")
_SUSPECT: Final = re.compile("|".join((*_STEMS, *sorted(_WORDS))))

# Each part ends at a character that the next cannot begin before, so that long texts cost little.
_URL_PASSWORD: Final = re.compile(r"(://[^\s/:@]{0,200}:)[^\s/@]{1,500}(?=@)")
_URL_PARAMETER: Final = re.compile(r"([?&;]([^\s=&?;#]{1,200})=)[^\s&;#]+")


def is_secret(name: str) -> bool:
    """Return whether what goes by this name is not to be shown.

    Args:
        name: A parameter, key, field or header, in any style of writing.
    """
    whole = _BESIDE_WORDS.sub("", name).lower()
    if _SUSPECT.search(whole) is None:
        return False
    words = {word.lower() for word in _BETWEEN_WORDS.split(name)}
    return not _WORDS.isdisjoint(words) or any(stem in whole for stem in _STEMS)


def masked(text: str) -> str:
    """Return a text without the passwords and secret parameters of the URLs in it."""
    if "://" not in text:
        return text
    text = _URL_PASSWORD.sub(rf"\g<1>{MASK}", text)
    return _URL_PARAMETER.sub(_masked_parameter, text)


def _masked_parameter(found: re.Match[str]) -> str:
    return f"{found[1]}{MASK}" if is_secret(found[2]) else found[0]
