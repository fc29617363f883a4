"""Whether a condition depends on the row alone, so that no row leaves it as time passes."""

from __future__ import annotations

import re

__all__ = ["depends_on_the_row_alone"]

WORDS = {
    "and", "or", "not", "is", "null", "true", "false", "in", "between", "like", "ilike", "similar", "to", "any", "all",
    "array", "distinct", "from", "escape", "unknown", "symmetric", "isnull", "notnull", "case", "when", "then", "else",
    "end", "date", "timestamp", "timestamptz", "interval", "numeric", "int", "integer", "bigint", "smallint", "text",
    "varchar", "boolean", "uuid", "real", "double", "precision",
}  # fmt: skip
FUNCTIONS = {
    "lower", "upper", "length", "char_length", "octet_length", "trim", "btrim", "ltrim", "rtrim", "left", "right",
    "coalesce", "nullif", "greatest", "least", "abs", "mod", "floor", "ceil", "round", "sign", "in", "any", "all",
    "and", "or", "not", "when", "then", "else", "between", "like", "ilike", "varchar", "numeric",
}  # fmt: skip
# Literals that PostgreSQL reads as the time at which it reads them.
OF_NOW = re.compile(r"\b(now|today|tomorrow|yesterday|current)\b", re.IGNORECASE)
TOKEN = re.compile(
    r"""\s+ | (?P<text>'(?:[^'\\]|'')*') | (?P<quoted>"(?:[^"]|"")+") | (?P<number>\d+(?:\.\d+)?)
    | (?P<word>[^\W\d]\w*) | (?P<sign><>|!=|<=|>=|::|\|\||[-+*/%<>=(),.\[\]])""",
    re.VERBOSE,
)


def depends_on_the_row_alone(condition: str) -> bool:
    """Whether that can be seen: it is made of columns, literals, comparisons and a few functions that never change.

    >>> depends_on_the_row_alone("year >= 2020 AND lower(state) = 'open'")
    True
    >>> depends_on_the_row_alone("created_at > now() - interval '30 days'")
    False
    """
    if "--" in condition or "/*" in condition:
        # Within a comment a quotation mark means nothing, and hides what follows it.
        return False
    place, tokens = 0, list[tuple[str, str]]()
    while place < len(condition):
        found = TOKEN.match(condition, place)
        if found is None:
            return False
        place = found.end()
        if found.lastgroup is not None:
            tokens.append((found.lastgroup, found[0]))
    return all(_is_harmless(tokens, number) for number in range(len(tokens)))


def _is_harmless(tokens: list[tuple[str, str]], number: int) -> bool:
    kind, text = tokens[number]
    follows = tokens[number + 1][1] if number + 1 < len(tokens) else ""
    before = tokens[number - 1][1] if number else ""
    if kind == "text":
        return not OF_NOW.search(text)
    if kind == "quoted":
        return follows != "(" and before != "::"
    if kind != "word":
        return True
    word = text.lower()
    if follows == "(":
        return word in FUNCTIONS
    if before == "::":
        return word in WORDS
    return not re.match(r"(current_|local|session_user|user$|select|exists|with|system_user)", word)
