"""Which names hold secrets, and what is shown in place of their values.

What lives here: the list of names, the mask, and secrets inside texts. What does not: where values
come from (`display`). Pure; called by whatever shows stored values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from embedded_tasks.errors import ConfigurationError

__all__ = ["MASK", "Masking"]

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
_SHORTEST_KNOWN: Final = 4
_MOST_KNOWN: Final = 200

# Each part ends at a character that the next cannot begin before, so that long texts cost little.
_URL_PASSWORD: Final = re.compile(r"(://[^\s/:@]{0,200}:)[^\s/@]{1,500}(?=@)")
_URL_PARAMETER: Final = re.compile(r"([?&;]([^\s=&?;#]{1,200})=)[^\s&;#'\"]+")
# As Python, JSON, headers and settings write a name and its value: token='x', "token": "x",
# TOKEN=x, Authorization: Bearer x. The name cannot begin inside a word.
_NAMED: Final = re.compile(
    r"""(?<![\w-])(["']?([A-Za-z_][\w-]{1,80})["']?\s{0,3}(?:=|:)\s{0,3})"""
    r"""([bru]{0,2}'[^'\n]{0,2000}'|[bru]{0,2}"[^"\n]{0,2000}"|"""
    r"""(?:(?:Basic|Bearer|Digest|Token)\s{1,3})?[^\s,;&'"(){}\[\]<>]{1,2000})"""
)
_SCHEME: Final = re.compile(r"\b((?:Bearer|Basic)\s{1,3})[A-Za-z0-9._~+/=-]{8,2000}")
_HARMLESS: Final = frozenset({"none", "null", "true", "false"})


class Masking:
    """Knows secrets by the names that they go by.

    Args:
        names: Further names of secrets, found anywhere in a name, such as "iban".
        known: Secrets themselves, which are hidden wherever a text has them.

    Raises:
        ConfigurationError: A name is too short, or is none.
    """

    def __init__(self, names: Iterable[str] = (), known: Iterable[str] = ()) -> None:
        self.names: tuple[str, ...] = tuple(names)
        self._stems = (*_STEMS, *(_stem(name) for name in self.names))
        self._suspect = re.compile("|".join((*map(re.escape, self._stems), *sorted(_WORDS))))
        # The longest first: one may be a part of another.
        longest = sorted({each for each in known if len(each) >= _SHORTEST_KNOWN}, key=len)[::-1]
        found = longest[:_MOST_KNOWN]
        self._known = re.compile("|".join(map(re.escape, found))) if found else None

    def knowing(self, secrets: Iterable[str]) -> Masking:
        """Return a masking that hides these very texts as well."""
        known = list(secrets)
        return Masking(self.names, known) if known else self

    def is_secret(self, name: str) -> bool:
        """Return whether what goes by this name is not to be shown.

        Args:
            name: A parameter, key, field or header, in any style of writing.
        """
        whole = _BESIDE_WORDS.sub("", name).lower()
        if self._suspect.search(whole) is None:
            return False
        words = {word.lower() for word in _BETWEEN_WORDS.split(name)}
        return not _WORDS.isdisjoint(words) or any(stem in whole for stem in self._stems)

    def text(self, text: str) -> str:
        """Return a text without the secrets that can be told in it."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\g<1>{MASK}", text)
            text = _URL_PARAMETER.sub(self._parameter, text)
        if "=" in text or ":" in text:
            text = _NAMED.sub(self._named, text)
        if "Bearer" in text or "Basic" in text:
            text = _SCHEME.sub(rf"\g<1>{MASK}", text)
        return text

    def fields(self, fields: Mapping[str, str]) -> dict[str, str]:
        """Return named texts without their secrets."""
        return {
            self.text(name): MASK if self.is_secret(name) else self.text(value)
            for name, value in fields.items()
        }

    def values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return named plain values without their secrets."""
        return {
            name: MASK if value is not None and self.is_secret(name) else self._value(value)
            for name, value in values.items()
        }

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return self.values({str(name): each for name, each in value.items()})
        if isinstance(value, list | tuple):
            return [self._value(each) for each in value]
        return value

    def _parameter(self, found: re.Match[str]) -> str:
        return f"{found[1]}{MASK}" if self.is_secret(found[2]) else found[0]

    def _named(self, found: re.Match[str]) -> str:
        before, name, value = found.groups()
        if value.lower() in _HARMLESS or MASK in value or not self.is_secret(name):
            return found[0]
        quote = value[-1] if value[-1] in "'\"" else ""
        return f"{before}{quote}{MASK}{quote}"


def _stem(name: object) -> str:
    stem = _BESIDE_WORDS.sub("", name).lower() if isinstance(name, str) else ""
    if len(stem) < 3:
        raise ConfigurationError(
            f"secrets: {name!r} would hide too much. Give names of at least three letters, such "
            "as 'iban'; they are found anywhere in a name."
        )
    return stem
