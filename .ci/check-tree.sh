#!/usr/bin/env bash
# House rules that a search of the tree can hold: no absolute paths into one person's
# files, no leftover markers, and an opening comment in every source file.
set -euo pipefail
cd "$(dirname "$0")/.."
faults=0

# forbid WHAT PATTERN: no tracked text may match.
forbid() {
    local what=$1 pattern=$2
    if git grep -nIP "$pattern" -- . ':!.ci/check-tree.sh'; then
        echo "above: $what" >&2
        faults=1
    fi
}

# System folders such as /etc and /proc are the same everywhere, and so are the
# temporary folders that our own programs name pithead-…
forbid "an absolute path that only one machine has" \
    '(?<![\w.~$}/-])/(home|root|Users|mnt|media|opt|srv|work|tmp(?!/pithead-))(/|\b)'
forbid "a marker of unfinished work" '(FIXME|XXX|TBD)([^A-Za-z]|$)'
forbid "a conflict marker" '^(<<<<<<<|>>>>>>>) '

while IFS= read -r file; do
    head -n 1 "$file" | grep -q '^//!' || {
        echo "$file does not open with //! saying what it is for" >&2
        faults=1
    }
done < <(git ls-files '*.rs')

[ $faults -eq 0 ] && echo "the tree keeps the house rules"
exit $faults
