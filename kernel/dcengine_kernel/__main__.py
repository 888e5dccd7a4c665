"""``python -m dcengine_kernel``: what the kernelspec starts."""

import os
import sys

if __name__ == "__main__":
    # While the kernel loads, a random.py beside the notebook must not stand in for Python's own;
    # IPython puts the folder back once all is loaded. Nothing but os and sys is imported before.
    if sys.path[0] == "" or sys.path[0] == os.getcwd():
        del sys.path[0]

    from dcengine_kernel.app import main

    main()
