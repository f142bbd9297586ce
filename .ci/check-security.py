#!/usr/bin/env python3
"""Checks that every test that docs/security.md names exists."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security.md"
# A test's name has at least four words; other names in backquotes are shorter.
NAME = re.compile(r"`((?:[a-z0-9]+_){3,}[a-z0-9]+)`")
TEST = re.compile(r"fn ([a-z0-9_]+)\(")


def main():
    listed = subprocess.run(["git", "ls-files", "*.rs"], cwd=ROOT, check=True,
                            stdout=subprocess.PIPE, text=True).stdout.split()
    known = {name for path in listed
             for name in TEST.findall((ROOT / path).read_text(encoding="utf-8"))}
    named = NAME.findall(PAGE.read_text(encoding="utf-8"))
    missing = sorted(set(named) - known)
    if missing or not named:
        sys.exit("docs/security.md names tests that do not exist:\n" + "\n".join(missing))
    print(f"docs/security.md: {len(set(named))} tests exist")


if __name__ == "__main__":
    main()
