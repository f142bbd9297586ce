#!/usr/bin/env python3
"""Checks the links between the project's Markdown files: every file exists and
every #fragment is a heading in it. Links to elsewhere are left alone."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def text_of(path):
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path):
    """Headings as the usual renderers name them."""
    out = set()
    for heading in HEADING.findall(text_of(path)):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        out.add(plain.replace(" ", "-"))
    return out


def main():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True,
                            stdout=subprocess.PIPE, text=True).stdout.split()
    faults, count = [], 0
    for name in listed:
        source = ROOT / name
        for link in LINK.findall(text_of(source)):
            if "://" in link or link.startswith("mailto:"):
                continue
            count += 1
            file, _, fragment = link.partition("#")
            target = (source.parent / file).resolve() if file else source
            if not target.exists():
                faults.append(f"{name}: {link}: there is no such file")
            elif fragment and fragment not in anchors(target):
                faults.append(f"{name}: {link}: there is no such heading")
    if faults:
        sys.exit("\n".join(faults))
    print(f"{count} links in {len(listed)} files lead somewhere")


if __name__ == "__main__":
    main()
