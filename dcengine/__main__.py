"""``python -m dcengine`` is the ``dcengine`` command."""

from .cli import main

if __name__ == "__main__":
    main()
