#!/usr/bin/env bash
# House rules that a search of the tree can hold: no paths of somebody's
# machine, no package registry but the standard one, no leftover markers, and an
# opening comment in every source file.
set -euo pipefail
cd "$(dirname "$0")/.."
faults=0

# forbid WHAT PATTERN [PATHSPEC…]: no tracked text may match.
forbid() {
    local what=$1 pattern=$2
    shift 2
    if git grep -nIE "$pattern" -- . ':!.ci/check-tree.sh' "$@"; then
        echo "above: $what" >&2
        faults=1
    fi
}

forbid "a path of somebody's machine" '(^|[^A-Za-z0-9_.~$}/-])/(work|root|home/[a-z]|Users/[A-Za-z]|tmp/wt|tmp/bash)/?'
forbid "the address of a package registry" \
    '(index|static)\.crates\.io|registry\.npmjs|registry\.yarnpkg|files\.pythonhosted|pypi\.org|proxy\.golang|artifactory|nexus'
forbid "a marker of unfinished work" '(FIXME|XXX|TBD)([^A-Za-z]|$)'
forbid "a conflict marker" '^(<<<<<<<|>>>>>>>) '

# Every locked dependency comes from the standard registry.
if grep '^source = ' Cargo.lock | grep -v '"registry+https://github.com/rust-lang/crates.io-index"'; then
    echo "above: dependencies from elsewhere" >&2
    faults=1
fi

while IFS= read -r file; do
    head -n 1 "$file" | grep -q '^//!' || {
        echo "$file does not open with //! saying what it is for" >&2
        faults=1
    }
done < <(git ls-files '*.rs')

[ $faults -eq 0 ] && echo "the tree keeps the house rules"
exit $faults
