"""Lists every package that bench-core needs, directly or not, with its version and licence.

`python tests/support/licences.py` exits with 1 where a package states none: then somebody has to look.
"""

import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.markers import default_environment
from packaging.requirements import Requirement

EXTRAS = ("", "torch", "jax", "report", "history", "fleet")  # those that a machine without a GPU can install


def needed(name, extras=("",), found=None):
    """Return every distribution installed that `name` needs, by name; what is not installed is left out."""
    found = {} if found is None else found
    try:
        about = distribution(name)
    except PackageNotFoundError:
        return found
    found[about.name] = about
    for text in about.requires or ():
        requirement = Requirement(text)
        applies = requirement.marker is None or any(
            requirement.marker.evaluate({**default_environment(), "extra": extra}) for extra in extras
        )
        if applies and requirement.name not in {known.lower() for known in found}:
            needed(requirement.name, ("", *requirement.extras), found)
    return found


def licence(about: Distribution) -> str:
    """Return the licence as the package states it, "" if it does not: its expression, classifiers or field."""
    if expression := about.metadata.get("License-Expression"):
        return expression
    classifiers = about.metadata.get_all("Classifier") or []
    named = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License :: ")]
    stated = (about.metadata.get("License") or "").strip().splitlines()
    return ", ".join(name for name in named if name != "OSI Approved") or (stated[0] if stated else "")


def main():
    packages = needed("bench-core", EXTRAS)
    for name, about in sorted(packages.items(), key=lambda item: item[0].lower()):
        print(f"{name:28} {about.version:20} {licence(about) or '?'}")
    silent = [name for name, about in packages.items() if not licence(about)]
    if silent:
        sys.exit(f"no licence is stated by: {', '.join(sorted(silent))}")


if __name__ == "__main__":
    main()
