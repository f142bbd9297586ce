//! Budgets: the worst input that the limits allow costs each event, and each answer to a peer, no
//! more store reads, bytes read and signature checks than stated. Costs are counted, never timed.
//!
//! The table of budgets stands in docs/node-policy.md, and this test reads it there. Start reading
//! at [`every_event_keeps_its_budget`]; `bench` has the node, the other files have the inputs.

#![allow(clippy::unwrap_used)]

mod answers;
mod bench;
mod blocks;
mod peers;
mod transactions;

use std::sync::{Mutex, PoisonError};

use bench::Cost;

/// The page with the table.
const POLICY: &str = include_str!("../../../../docs/node-policy.md");
/// The heading above the table.
const HEADING: &str = "## Budgets";
/// An input, by its words in the table, and what it costs.
type Row = (&'static str, fn() -> Cost);

/// The budgets of the page, by input.
fn budgets() -> Vec<(String, Cost)> {
    let section = POLICY.split(HEADING).nth(1).expect("the section is there");
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| "));
    let rows = lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    // The first line is the heading of the table.
    rows.skip(1)
        .map(|cells| {
            let number = |at: usize| cells[at].replace(',', "").parse().unwrap();
            let cost = Cost {
                reads: number(2),
                bytes: number(3),
                signatures: number(4),
            };
            (cells[1].to_owned(), cost)
        })
        .collect()
}

/// The count of signature checks is that of the whole process: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The inputs that cost more than their budget, each with its cost.
fn exceeded() -> Vec<String> {
    let rows: Vec<Row> = [blocks::ROWS, transactions::ROWS, peers::ROWS, answers::ROWS].concat();
    let budgets = budgets();
    let named: Vec<&str> = budgets.iter().map(|(input, _)| input.as_str()).collect();
    let known: Vec<&str> = rows.iter().map(|(input, _)| *input).collect();
    assert_eq!(named, known, "the table has these inputs, in this order");
    let mut exceeded = Vec::new();
    for ((input, measure), (_, budget)) in rows.iter().zip(&budgets) {
        let cost = measure();
        println!("{input}: {cost} of {budget}");
        if !cost.is_within(budget) {
            exceeded.push(format!("{input}: {cost}, at most {budget}"));
        }
    }
    exceeded
}

#[test]
fn every_event_keeps_its_budget() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let exceeded = exceeded();
    assert!(exceeded.is_empty(), "{exceeded:#?}");
}

/// The table notices an answer without a limit on its bytes.
#[cfg(feature = "fault-injection")]
#[test]
fn answers_without_a_limit_exceed_the_budget() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    pithead_core::fault_injection::answer_all(true);
    let exceeded = exceeded();
    pithead_core::fault_injection::answer_all(false);
    assert!(
        exceeded
            .iter()
            .any(|each| each.starts_with("1,000 blocks of")),
        "{exceeded:#?}"
    );
}
