//! Block templates, the blocks that miners search a nonce for: a template is a block that
//! passes every rule, it is renewed when there is something new to mine, and a node that is
//! far behind makes none.

use pithead_core::node::{BlockVerdict, Effect, Event};
use pithead_core::sync::SyncSettings;
use pithead_testkit::chain::mine;
use pithead_testkit::key;
use pithead_testkit::nodes::{
    NOW, branch, chain_of, empty, file, give, give_all, memory, open, pay,
};

use super::reorganisation::submit;

#[test]
fn templates_are_blocks_that_pass_and_are_renewed_when_due() {
    let file = file();
    let genesis = file.check().unwrap();
    let mut node = open(&memory(), &genesis, NOW);
    let first = node.template(NOW).unwrap();
    assert_eq!((first.height.0, first.transactions.len()), (1, 0));
    assert_eq!(
        node.template(NOW + 5).unwrap().id,
        first.id,
        "cached per tip"
    );
    submit(&mut node, &pay(&file, 0, 0, 4), NOW);
    node.handle(Event::Tick, NOW + 1);
    let second = node.template(NOW + 1).unwrap();
    assert!(second.id > first.id);
    assert_eq!(second.transactions.len(), 1);
    // Nothing new: it lives until it is old.
    node.handle(Event::Tick, NOW + 2);
    assert_eq!(node.template(NOW + 2).unwrap().id, second.id);
    node.handle(Event::Tick, NOW + 31);
    assert!(node.template(NOW + 31).unwrap().id > second.id);
    let template = node.template(NOW + 31).unwrap();
    let commitment = template.commitment(key(7).address, [1; 8]);
    let mut header = template.header(&commitment);
    mine(&mut header);
    let block = template.block(header, commitment);
    assert_eq!(
        give(&mut node, &block, NOW + 31).unwrap(),
        BlockVerdict::NewTip
    );
    assert!(
        chain_of(&file, &[block]).height() == 1,
        "the other chain agrees"
    );
}

#[test]
fn templates_rest_while_a_node_is_far_behind() {
    let genesis = file().check().unwrap();
    let blocks = branch(&file(), &[], &key(7).address, &empty(3));
    let block = |index: usize| Event::Block(Box::new(blocks[index].clone()));
    let mut whole = open(&memory(), &genesis, NOW);
    give_all(&mut whole, &blocks, NOW);
    let mut node = open(&memory(), &genesis, NOW).with_sync(SyncSettings {
        minimum_chain_work: whole.chain().tip().chain_work,
        ..SyncSettings::default()
    });
    node.template(NOW).unwrap();
    for event in [block(0), Event::Tick, block(1), Event::Tick] {
        // Long after any template is due.
        let (_, effects) = node.handle(event, NOW + 86_400);
        let renewed = effects
            .iter()
            .any(|one| matches!(one, Effect::NewTemplate(_)));
        assert!(!renewed, "{effects:?}");
    }
    // A miner that sees that the node is in step finds work on its tip.
    let (_, effects) = node.handle(block(2), NOW + 86_400);
    let of_note = effects.iter().filter_map(|effect| match effect {
        Effect::NewTemplate(template) => Some(template.height.0),
        Effect::SyncChanged(status) if !status.syncing => Some(0),
        _ => None,
    });
    assert_eq!(of_note.collect::<Vec<_>>(), [4, 0]);
}
