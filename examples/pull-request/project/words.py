"""A small project with a dependency that its installation puts into /opt/dependencies."""
import sys

sys.path.append("/opt/dependencies")
import greeting  # noqa: E402  (the dependency)


def greet(name):
    return f"{greeting.WORD}, {name}"
