r"""Text of unknown origin made safe to print: what would steer a terminal or hide in it is written as an escape.

Model ids, notes, names of files and sites, and texts of tokens come from wherever a run came from. Escape sequences in
them set a terminal's title or clear it, a carriage return or a bidirectional override passes one text off as another,
and a lone surrogate cannot be encoded at all. Consoles, messages on standard error and pages write all of them as
Python would: `\x1b`, `\u202e`, `\ud83d`. JSON documents keep the original text.
"""

from __future__ import annotations

import shlex
import unicodedata

__all__ = ["escaped", "is_visible", "shell_word", "visible", "visible_line"]


def is_visible(character: str) -> bool:
    """Whether a character can be printed as it is: no control, format or private character, surrogate or separator.

    Spaces of any width can.
    """
    return character.isprintable() or unicodedata.category(character) == "Zs"


def visible(text: str) -> str:
    r"""A text with everything escaped that is not visible, except for line breaks (`\n`)."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or is_visible(c) else escaped(c) for c in text)


def visible_line(text: str) -> str:
    r"""The same for a text that has to stay on one line: a line break is escaped too."""
    return visible(text).replace("\n", r"\n")


def shell_word(text: str) -> str:
    r"""An argument as a POSIX shell takes it, on one line and visible.

    What has control characters is written in `$'...'` (bash, zsh, and POSIX since 2024); what starts with a dash is
    taken for a path, which `./` keeps from being read as an option.
    """
    text = f"./{text}" if text.startswith("-") else text
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_shell_escaped, text))}'"


def escaped(character: str) -> str:
    r"""A character as in a Python string: `\n`, `\x1b`, `\u202e`."""
    return character.encode("unicode_escape").decode("ascii")


def _shell_escaped(character: str) -> str:
    if character == "\\":
        return r"\\"
    if character != "'" and is_visible(character):
        return character
    # Bytes in octal, which every shell that knows $'...' reads, whatever its locale; three digits, so that a digit that
    # follows is not taken for one of them. A file's name holds no other surrogates than those that stand for bytes.
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "replace"
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", errors))
