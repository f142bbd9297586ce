//! `pithead watch` against a fake node: reorganisations, approvals and finality as
//! they come.

use pithead_api::v1::subscribe_chain_response::Event;
use pithead_consensus::genesis::Network;

use crate::support::{FakeNode, block, chain_event, hash, pithead, stderr, stdout};

#[tokio::test(flavor = "multi_thread")]
async fn watch_shows_a_reorganisation_and_resumes_without_a_gap() {
    let node = FakeNode::start(Network::Dev).await;
    let folder = tempfile::tempdir().unwrap();
    let start = |height, branch| {
        let header = block(height, branch, "").header.unwrap();
        chain_event(Event::Start(header), hash(height, branch))
    };
    let joined = |height, branch| {
        chain_event(
            Event::Connected(block(height, branch, "")),
            hash(height, branch),
        )
    };
    let left = |height, branch, now| {
        chain_event(
            Event::Disconnected(block(height, branch, "")),
            hash(height - 1, now),
        )
    };
    let script = vec![
        vec![start(2, 'a'), joined(3, 'a'), joined(4, 'a')],
        vec![
            start(4, 'a'),
            left(4, 'a', 'a'),
            left(3, 'a', 'a'),
            joined(3, 'b'),
            joined(4, 'b'),
            joined(5, 'b'),
        ],
    ];
    node.state().subscriptions.extend(script.clone());
    let output = pithead(&node.url, folder.path(), &["watch", "--count", "5"]).await;
    let text = stdout(&output);
    assert!(
        text.contains("reorganisation: 2 blocks left the chain at height 3"),
        "{text}"
    );
    assert_eq!(text.matches("left the chain\n").count(), 2, "{text}");
    assert!(
        stderr(&output).contains("trying again"),
        "{}",
        stderr(&output)
    );
    let resumed_from = std::mem::take(&mut node.state().resumed_from);
    assert_eq!(resumed_from[0], Vec::<String>::new());
    assert_eq!(resumed_from[1], [hash(4, 'a'), hash(3, 'a'), hash(2, 'a')]);

    node.state().subscriptions.extend(script);
    let output = pithead(
        &node.url,
        folder.path(),
        &["watch", "--count", "5", "--json"],
    )
    .await;
    let events: Vec<serde_json::Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    let expected =
        "start connected connected start disconnected disconnected connected connected connected";
    assert_eq!(kinds.join(" "), expected);
    assert_eq!(events[8]["block"]["header"]["hash"], hash(5, 'b'));
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_tells_what_becomes_approved_and_final() {
    let (node, _) = FakeNode::with_validators(4, 3).await;
    let folder = tempfile::tempdir().unwrap();
    let step = |event, height| chain_event(event, hash(height, 'a'));
    let header = |height| block(height, 'a', "").header.unwrap();
    let script = vec![
        step(Event::Start(header(2)), 2),
        step(Event::Approved(header(2)), 2),
        step(Event::Connected(block(3, 'a', "")), 3),
        step(Event::Final(header(1)), 3),
        step(Event::Connected(block(4, 'a', "")), 4),
    ];
    node.state().subscriptions.push_back(script.clone());
    let text = stdout(&pithead(&node.url, folder.path(), &["watch", "--count", "2"]).await);
    let line = |word: &str| text.lines().find(|line| line.starts_with(word)).unwrap();
    assert!(line("approved").ends_with("the tip"), "{text}");
    assert!(line("final").ends_with("2 blocks behind the tip"), "{text}");
    node.state().subscriptions.push_back(script);
    let args = ["watch", "--count", "2", "--json"];
    let text = stdout(&pithead(&node.url, folder.path(), &args).await);
    let events: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[1]["event"], "approved");
    assert_eq!(events[3]["event"], "final");
    assert_eq!(events[3]["header"]["height"], 1);
}
