"""Names and text in the cells of a Markdown table."""

from __future__ import annotations


def code(name: str) -> str:
    """A name as code in a cell. What no code span holds in every renderer stands in HTML's."""
    plain = not set(name) & set("`|\\")
    return f"`{name}`" if plain and name.strip() else f"<code>{literal(name)}</code>"


def literal(text: str) -> str:
    """Text in which nothing is Markdown, HTML or a mention."""
    return text.translate({ord(mark): f"&#{ord(mark)};" for mark in "\\`*_[]<>&|@#~:"})
