#!/usr/bin/env python3
"""Holds the quotes in the code to docs/protocol.md, word for word.

A comment `# Consensus: §n "text"` names the section whose sentence the next lines
enforce. The text must stand in that section. Line breaks, comment marks and
Markdown's `*` and backquotes do not count.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTOCOL = ROOT / "docs" / "protocol.md"
MARK = "# Consensus:"
# Applied after comment marks are gone and white space is single spaces.
QUOTE = re.compile(MARK + r' §(\d+) "([^"]+)"')


def plain(text):
    return " ".join(re.sub(r"[*`]", "", text).split())


def sections():
    """The plain text of each numbered section."""
    text = PROTOCOL.read_text(encoding="utf-8")
    parts = re.split(r"^## (?:(\d+) )?.*$", text, flags=re.MULTILINE)
    return {number: plain(body) for number, body in zip(parts[1::2], parts[2::2]) if number}


def main():
    listed = subprocess.run(["git", "ls-files", "*.rs"], cwd=ROOT, check=True,
                            stdout=subprocess.PIPE, text=True).stdout.split()
    known, faults, count = sections(), [], 0
    for name in listed:
        code = (ROOT / name).read_text(encoding="utf-8")
        marks = code.count(MARK)
        if not marks:
            continue
        found = QUOTE.findall(" ".join(re.sub(r"^\s*//[/!]?", "", code, flags=re.MULTILINE).split()))
        if len(found) != marks:
            faults.append(f'{name}: write each as {MARK} §9 "a sentence of that section"')
        for section, quote in found:
            count += 1
            if plain(quote) not in known.get(section, ""):
                faults.append(f'{name}: §{section} does not say "{quote}"')
    if faults or not count:
        sys.exit("\n".join(faults) or "there are no quotes")
    print(f"{count} quotes stand in {PROTOCOL.name}")


if __name__ == "__main__":
    main()
