"""In which session a task runs, as a part of what it asks of workers. No I/O."""

from __future__ import annotations

from functools import lru_cache

from .expressions import Either, Every, InSession, parse


@lru_cache(1024)
def session_of(expression: str) -> str | None:
    """Return the session in which a task with this *expression* runs, None for one that is in none."""
    if "session(" not in expression:  # as usual
        return None
    parsed = parse(expression)
    clauses = parsed.parts if isinstance(parsed, Every) else (parsed,)
    return next((clause.name for clause in clauses if isinstance(clause, InSession)), None)


def with_session(expression: str, name: str) -> str:
    """Return *expression* for a task in the session of that *name*."""
    clause = str(InSession(name))
    if not expression.strip():
        return clause
    return " & ".join([f"({expression})" if isinstance(parse(expression), Either) else expression, clause])
