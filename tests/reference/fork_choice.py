"""Fork choice in plain Python, written from docs/protocol.md §8 and §9 alone.

Blocks are numbers: block 0 is the genesis, and `parents[b]` is the parent of block b.
A certificate is a pair (source, target) of checkpoints, a vote is a pair (validator,
source). Blocks arrive in the order of their numbers.
"""

REORG_MAX = 8


def height(parents, block):
    return 0 if block == 0 else 1 + height(parents, parents[block])


def chain(parents, tip):
    """The blocks from the tip down to the genesis."""
    blocks = [tip]
    while blocks[-1] != 0:
        blocks.append(parents[blocks[-1]])
    return blocks


def approved(certificates):
    known = {0}
    for source, target in certificates:
        if source in known:
            known.add(target)
    return known


def final_path(parents, interval, certificates):
    """The last final block and the checkpoints on the way to it."""
    source_of = {target: source for source, target in certificates}
    final = [s for s, t in certificates if height(parents, t) == height(parents, s) + interval]
    at = max(final, key=lambda block: height(parents, block), default=0)
    path = {0, at}
    while at != 0:
        at = source_of[at]
        path.add(at)
    return path


def facts(case, tip):
    """The chain's order among all as the heaviest, and what is asked of the heaviest."""
    parents = case["parents"]
    def high(blocks):
        return max(height(parents, block) for block in blocks)

    blocks = set(chain(parents, tip))
    known = approved(case["certificates"])
    final = high(blocks & final_path(parents, case["interval"], case["certificates"]))
    own_approved = high(blocks & known)
    stranded = {validator for validator, source in case["votes"]
                if source in known and height(parents, source) > own_approved}
    votable = len(stranded) <= (case["validators"] - case["quorum"]) // 2
    highest = max(known, key=lambda block: height(parents, block))
    common = high(blocks & set(chain(parents, highest)))
    work = sum(case["work"][block] for block in blocks)
    return {
        "tip": tip, "class": (final, votable), "order": (final, votable, work, -tip),
        "contains": highest in blocks, "above": height(parents, tip) - common,
    }


def ends(parents):
    return sorted(set(range(len(parents))) - {parents[b] for b in range(1, len(parents))})


def best(case):
    chains = [facts(case, tip) for tip in ends(case["parents"])]
    heaviest = max(chains, key=lambda one: one["order"])
    if heaviest["contains"] or heaviest["above"] > REORG_MAX:
        return heaviest["tip"]
    containing = [one for one in chains if one["contains"] and one["class"] == heaviest["class"]]
    return max(containing, key=lambda one: one["order"], default=heaviest)["tip"]


def may_both_exist(parents, one, other):
    """Whether one validator may have signed both links (§9, rules 1 and 2)."""
    (a, b), (c, d) = [[height(parents, block) for block in link] for link in (one, other)]
    return one == other or (b != d and not (a < c and d < b) and not (c < a and b < d))


def random_case(rng):
    """A trunk with some branches, certificates that don't conflict, and votes."""
    interval, validators, quorum = rng.choice([(1, 4, 3), (2, 7, 5), (3, 25, 20)])
    parents = [0]
    for _ in range(rng.randrange(2, 5)):
        at = rng.randrange(len(parents))
        for _ in range(rng.randrange(3, 18)):
            parents.append(at)
            at = len(parents) - 1
    checkpoints = [b for b in range(len(parents)) if height(parents, b) % interval == 0]
    certificates = []
    for _ in range(rng.randrange(6)):
        source = rng.choice(sorted(approved(certificates)))
        link = (source, rng.choice(checkpoints))
        descends = source in chain(parents, link[1]) and source != link[1]
        if descends and all(may_both_exist(parents, link, other) for other in certificates):
            certificates.append(link)
    likely = sorted(approved(certificates)) * 3 + checkpoints
    votes = [(rng.randrange(validators), rng.choice(likely))
             for _ in range(rng.randrange(2 * validators))]
    case = {
        "interval": interval, "validators": validators, "quorum": quorum, "parents": parents,
        "work": [0] + [rng.randrange(1, 4) for _ in parents[1:]],
        "certificates": certificates, "votes": votes,
    }
    return compact(case | {"best": best(case)})


def compact(case):
    """Lists as text, numbers apart by spaces, the two of a pair by a dash: `0-3 3-6`."""
    def text(value):
        if isinstance(value, list):
            return " ".join(map(text, value))
        return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)

    return {name: text(value) if isinstance(value, list) else value
            for name, value in case.items()}
