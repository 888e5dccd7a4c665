"""``%jobs``, ``%job``, ``%project``, ``%workers``, ``%why``, ``%leaderboard``: what the engine knows, as views.

They are light: what they ask with is imported when they ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

NAMES = ("jobs", "job", "project", "workers", "why", "leaderboard")


@magics_class
class LineMagics(Magics):
    """The magics that look at the engine in use; each gives back what it shows."""

    shell: InteractiveShell

    @line_magic
    def jobs(self, line: str) -> Any:
        """Show the newest jobs and batches; in a notebook they can be looked through.

        %jobs [--project NAME] [--stage NAME] [--state STATE] [--submitter NAME] [--worker NAME] [--text TEXT]
              [--before ID] [-n N]

        --project NAME   only jobs of this project
        --stage NAME     only those that are at this stage, or ended there
        --state STATE    only those that are open, succeeded, failed or cancelled
        --submitter NAME only those that NAME brought, such as ada@lab
        --worker NAME    only those that NAME has, or had last
        --text TEXT      only those with TEXT in function, key or tags, or with that number or id
        --before ID      only those with an id below: the next page
        -n N             how many at most; 20 unless said

        `found = %jobs --state failed` keeps them: a list, newest first, and `found.batches`.
        """
        return self._answer("jobs", line)

    @line_magic
    def job(self, line: str) -> Any:
        """Show a job with its past: what went in and came out at each stage, its tries, what it said.

        %job ID

        ID               that of the job, its place in a project such as photos/17, or a name that holds its handle
        """
        return self._answer("job", line)

    @line_magic
    def project(self, line: str) -> Any:
        """Show a project as a board: its stages, its pace, what comes out, what fails, and buttons to act on it.

        %project NAME

        NAME             that of the project, or a name that holds it

        `photos = %project photos` keeps the project.
        """
        return self._answer("project", line)

    @line_magic
    def workers(self, line: str) -> Any:
        """Show the workers and what they do, or which of them match a tag expression.

        %workers [EXPRESSION]

        EXPRESSION       such as gpu.memory>=16GiB & site==lab; the others are shown with what they lack

        `found = %workers` keeps a list of them.
        """
        return self._answer("workers", line)

    @line_magic
    def why(self, line: str) -> Any:
        """Say why a job is not running.

        %why ID

        ID               that of the job, its place in a project such as photos/17, or a name that holds its handle
        """
        return self._answer("why", line)

    @line_magic
    def leaderboard(self, line: str) -> Any:
        """Show who did how much of a project; it stays up to date while there is work on it.

        %leaderboard [PROJECT] [--span day|week|month|all]

        PROJECT          calls that belong to no project, unless said
        --span SPAN      over which credit is summed; all time unless said

        `board = %leaderboard photos` keeps a list of its rows.
        """
        return self._answer("leaderboard", line)

    def _answer(self, name: str, line: str) -> Any:
        from .line_answers import answer

        return answer(self.shell, name, line)
