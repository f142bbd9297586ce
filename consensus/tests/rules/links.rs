//! A trimmed [`Finality`] that looks older links up gives the answers of one that holds them all,
//! and both find every conflict that comparing all pairs of links finds.

use std::cell::Cell;
use std::collections::BTreeMap;

use pithead_consensus::approval::finality::{Links, NoLinks, Outcome, certificates_conflict};
use pithead_consensus::{Checkpoint, Finality, Height, Link};
use proptest::prelude::*;

use pithead_testkit::checkpoint;

/// The rules in their plainest form: every link is kept, and a new one is compared with all.
#[derive(Default)]
struct Plain {
    links: BTreeMap<Height, Link>,
    /// The final checkpoints.
    path: BTreeMap<Height, Checkpoint>,
    last_final: Height,
    stopped: bool,
}

/// What a link does: known, not yet, in conflict, approved or final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Known,
    NotYet,
    Conflict,
    Approved,
    Final,
}

const INTERVAL: u64 = 10;

fn genesis() -> Checkpoint {
    checkpoint(0, 0)
}

impl Plain {
    fn accept(&mut self, link: Link) -> Effect {
        if self.links.get(&link.target.height) == Some(&link) {
            return Effect::Known;
        }
        let source = self.links.get(&link.source.height);
        if link.source != genesis() && source.is_none_or(|found| found.target != link.source) {
            return Effect::NotYet;
        }
        if self.stopped || self.conflicts_with(&link) > 0 {
            self.stopped = true;
            return Effect::Conflict;
        }
        self.links.insert(link.target.height, link);
        let next = link.source.height.0 + INTERVAL == link.target.height.0;
        if !next || link.source.height <= self.last_final {
            return Effect::Approved;
        }
        let mut at = link.source;
        while at.height > self.last_final {
            self.path.insert(at.height, at);
            at = self.links[&at.height].source;
        }
        self.last_final = link.source.height;
        Effect::Final
    }

    fn conflicts_with(&self, link: &Link) -> usize {
        let clash = |found: &&Link| certificates_conflict(found, link);
        self.links.values().filter(clash).count()
    }

    fn final_at(&self, height: Height) -> Checkpoint {
        let found = self.path.range(..=height).next_back();
        found.map_or(genesis(), |(_, at)| *at)
    }
}

/// All links of the plain rules, as a store would give them, with a count of the questions.
struct Kept<'a>(&'a Plain, Cell<usize>);

impl Kept<'_> {
    fn count(&self) {
        self.1.set(self.1.get() + 1);
    }
}

impl Links for Kept<'_> {
    fn at_or_below(&self, height: Height) -> Option<Link> {
        self.count();
        self.0
            .links
            .range(..=height)
            .next_back()
            .map(|(_, link)| *link)
    }

    fn at_or_above(&self, height: Height) -> Option<Link> {
        self.count();
        self.0.links.range(height..).next().map(|(_, link)| *link)
    }

    fn final_at(&self, height: Height) -> Option<Checkpoint> {
        self.count();
        self.0.path.range(..=height).next_back().map(|(_, at)| *at)
    }
}

/// Links that mostly go from the highest approved checkpoints up, and sometimes from anywhere.
fn random_links() -> impl Strategy<Value = Vec<(u64, u64, u8)>> {
    let near = (0_u64..4, 1_u64..4, 0_u8..10);
    let far = (0_u64..40, 1_u64..40, 0_u8..3);
    prop::collection::vec(prop_oneof![9 => near, 1 => far], 1..80)
}

/// Turns the random numbers into a link: so many links down from the top as the source, so many
/// checkpoints up as the target, and seldom another branch.
fn link_of(plain: &Plain, (down, up, branch): (u64, u64, u8)) -> Link {
    let nth = usize::try_from(down).unwrap();
    let source = plain.links.values().rev().nth(nth);
    let source = source.map_or(genesis(), |link| link.target);
    let height = source.height.0 + up * INTERVAL;
    Link {
        source,
        target: checkpoint(height, u8::from(branch == 0)),
    }
}

fn effect(outcome: Result<Outcome, impl Sized>, link: &Link) -> Effect {
    match outcome {
        Err(_) => Effect::NotYet,
        Ok(Outcome::Known) => Effect::Known,
        Ok(Outcome::Approved) => Effect::Approved,
        Ok(Outcome::Final) => Effect::Final,
        Ok(Outcome::Conflict { earlier }) => {
            assert!(earlier != *link, "a link does not conflict with itself");
            Effect::Conflict
        }
    }
}

fn assert_same_answers(plain: &Plain, finality: &Finality, older: &dyn Links, link: &Link) {
    let top = plain.links.keys().next_back().map_or(0, |height| height.0) + INTERVAL;
    for height in (0..=top).step_by(5).map(Height) {
        assert_eq!(finality.final_at(older, height), plain.final_at(height));
        let below = plain.links.range(..=height).next_back();
        let found = finality.at_or_below(older, height);
        assert_eq!(found.as_ref(), below.map(|(_, link)| link));
        let above = plain.links.range(height..).next();
        let found = finality.at_or_above(older, height);
        assert_eq!(found.as_ref(), above.map(|(_, link)| link));
        for branch in 0..2 {
            let at = checkpoint(height.0, branch);
            let kept = plain.links.get(&height).map(|link| link.target);
            let approved = kept == Some(at) || at == genesis();
            assert_eq!(finality.is_approved(older, &at), approved);
        }
    }
    let found = finality.conflicting(older, link, usize::MAX);
    assert_eq!(found.len(), plain.conflicts_with(link));
    assert!(found.iter().all(|found| certificates_conflict(found, link)));
    let first = finality.conflicting(older, link, 2);
    assert_eq!(first[..], found[..found.len().min(2)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn trimmed_and_whole_give_the_answers_of_the_plain_rules(
        steps in random_links(),
        keep in 0_usize..6,
    ) {
        let mut plain = Plain::default();
        let mut whole = Finality::new(10, genesis());
        let mut trimmed = Finality::new(10, genesis());
        for step in steps {
            let link = link_of(&plain, step);
            let found = {
                let older = Kept(&plain, Cell::new(0));
                let checked = trimmed.check(&older, &BTreeMap::new(), &link);
                prop_assert!(older.1.get() <= 5, "questions for one link: {}", older.1.get());
                prop_assert_eq!(&checked, &whole.check(&NoLinks, &BTreeMap::new(), &link));
                let accepted = trimmed.accept_after(&older, link);
                prop_assert_eq!(&accepted, &checked);
                effect(checked, &link)
            };
            prop_assert_eq!(effect(whole.accept(link), &link), found);
            prop_assert_eq!(plain.accept(link), found);
            trimmed.trim(keep);
            prop_assert!(trimmed.links().count() <= keep);
            prop_assert_eq!(trimmed.last_final(), whole.last_final());
            prop_assert_eq!(trimmed.highest_approved(), whole.highest_approved());
            prop_assert_eq!(trimmed.conflict(), whole.conflict());
            let older = Kept(&plain, Cell::new(0));
            assert_same_answers(&plain, &whole, &NoLinks, &link);
            assert_same_answers(&plain, &trimmed, &older, &link);
            // A start finds the same state again.
            let links: Vec<Link> = plain.links.values().rev().take(keep.max(1)).copied().collect();
            let last = plain.final_at(Height(u64::MAX));
            let resumed = Finality::resume(10, genesis(), last, &links);
            prop_assert_eq!(resumed.highest_approved(), whole.highest_approved());
            assert_same_answers(&plain, &resumed, &older, &link);
        }
    }
}

/// A link may start far below what is final and end above it: it is looked at all the same.
#[test]
fn a_link_over_a_long_chain_conflicts() {
    let mut plain = Plain::default();
    let mut finality = Finality::new(10, genesis());
    for height in (0..10_000).step_by(10) {
        let link = pithead_testkit::link(height, height + 10);
        plain.accept(link);
        finality
            .accept_after(&Kept(&plain, Cell::new(0)), link)
            .unwrap();
        finality.trim(4);
    }
    let older = Kept(&plain, Cell::new(0));
    for (source, target) in [(20, 10_010), (20, 40), (0, 9_995), (9_970, 10_050)] {
        let over = Link {
            source: checkpoint(source, 0),
            target: checkpoint(target, 1),
        };
        let outcome = finality.check(&older, &BTreeMap::new(), &over).unwrap();
        let Outcome::Conflict { earlier } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(certificates_conflict(&earlier, &over));
    }
    let fits = pithead_testkit::link(9_990, 10_050);
    let outcome = finality.check(&older, &BTreeMap::new(), &fits);
    assert_eq!(outcome, Ok(Outcome::Approved));
}
