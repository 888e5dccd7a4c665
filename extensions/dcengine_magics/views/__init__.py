"""How handles, projects and lists show themselves: live in a notebook, then as plain HTML or text."""
