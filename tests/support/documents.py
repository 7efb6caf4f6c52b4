"""The documents of a clone: README.md, and the READMEs of folders, which have the rest of it."""

from tests.support import ROOT

README = ROOT / "README.md"
OF_ROOMS = sorted((ROOT / "bench_core").glob("*/README.md"))
OTHERS = [*ROOT.glob("*/*.md"), *ROOT.glob("tests/*/README.md")]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *OTHERS, *OF_ROOMS])

# What users are told of commands: those of README.md and of the rooms that carry them out.
TOLD = "".join(path.read_text(encoding="utf-8") for path in (README, *OF_ROOMS))
