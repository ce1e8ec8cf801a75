//! LEDGER-1 to LEDGER-4 over whole histories: losses of every kind are put into pipelines full of
//! crashes, copies and rebalances, and the ledger must name exactly these, each with the stage
//! that lost it, and nothing else.

use crate::support;

use std::collections::{BTreeMap, BTreeSet};

use lossproof_audit::ledger::Ledger;
use lossproof_audit::receipt::Receipt;
use lossproof_audit::verdict::{Ids, Outcome, Verdict};
use proptest::prelude::*;
use support::history::{History, Random, Shape, each_id, lost_ids};

fn shape() -> impl Strategy<Value = Shape> {
    (any::<u64>(), 200..1_500_usize, 2..5_u32, 1..3_usize, 0..4_usize, 0..3_usize).prop_map(
        |(seed, messages, partitions, groups, rough, tail)| Shape {
            seed,
            messages,
            partitions,
            groups,
            losses: [0, 200, 1_000, 5_000][rough],
            oddities: 8_000,
            crashes: 250,
            unconsumed: [0, 1, 40][tail],
        },
    )
}

fn judge(history: &History, receipts: &[Receipt]) -> Verdict {
    let mut ledger = Ledger::new();
    for receipt in receipts {
        ledger.apply(receipt);
    }
    history.read_topics(&mut ledger);
    ledger.verdict(&history.options())
}

fn last_of_each(receipts: &[Receipt]) -> Vec<Receipt> {
    let mut last: BTreeMap<(u64, Option<&str>), &Receipt> = BTreeMap::new();
    for receipt in receipts {
        let known = last.entry((receipt.reporter, receipt.role.group())).or_insert(receipt);
        if (receipt.incarnation, receipt.number) > (known.incarnation, known.number) {
            *known = receipt;
        }
    }
    last.into_values().cloned().collect()
}

fn assert_exact(history: &History, verdict: &Verdict) {
    assert_eq!(lost_ids(verdict), history.losses(), "LEDGER-2: exactly what was lost, and where");
    assert_eq!(verdict.unknown, [], "nobody is silent");
    let waiting: BTreeSet<_> =
        each_id(verdict.waiting.iter().map(|waiting| &waiting.ids)).into_iter().collect();
    let done = history.done();
    let lost = history.losses();
    let unsettled = history.accepted().iter().filter(|id| !done.contains(id));
    let underway: BTreeSet<_> = unsettled.filter(|id| !lost.contains_key(id)).copied().collect();
    for id in &underway {
        assert!(waiting.contains(id), "LEDGER-1: {id} is nowhere and not even waiting");
    }
    for id in waiting.difference(&underway) {
        assert!(lost.contains_key(id), "LEDGER-4: {id} has arrived");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exactly_the_injected_losses_are_named(shape in shape()) {
        let history = History::play(shape);
        let verdict = judge(&history, &history.receipts());
        assert_exact(&history, &verdict);
    }

    /// LEDGER-3
    #[test]
    fn order_and_repetition_do_not_matter(shape in shape()) {
        let history = History::play(shape);
        let mut receipts = history.receipts();
        let verdict = judge(&history, &receipts);
        let mut random = Random::new(shape.seed);
        for last in (1..receipts.len()).rev() {
            receipts.swap(last, random.below(last as u64 + 1) as usize);
        }
        let again = receipts.clone();
        receipts.extend(again.into_iter().step_by(3));
        let mut ledger = Ledger::new();
        history.read_topics(&mut ledger);
        for receipt in &receipts {
            ledger.apply(receipt);
        }
        prop_assert_eq!(ledger.verdict(&history.options()), verdict);
    }

    /// LEDGER-1, LEDGER-2: with receipts missing, nothing that has arrived is called lost, and
    /// nothing that has not arrived is called complete. Of each reporter something is there: of one
    /// that vanished without trace only the topic itself can tell (AUDIT-5).
    #[test]
    fn missing_receipts_make_unknown_and_nothing_else(shape in shape(), of in 1..40_u64) {
        let history = History::play(shape);
        let mut random = Random::new(shape.seed);
        let mut receipts = history.receipts();
        let last = last_of_each(&receipts);
        receipts.retain(|receipt| !random.chance(of, 40) || last.contains(receipt));
        let verdict = judge(&history, &receipts);
        let truth = history.losses();
        let told = lost_ids(&verdict);
        for (id, blame) in &told {
            prop_assert_eq!(truth.get(id), Some(blame), "LEDGER-2: {} is not lost there", id);
        }
        let mut open: BTreeSet<_> = told.keys().copied().collect();
        open.extend(each_id(verdict.unknown.iter().map(|unknown| &unknown.ids)));
        open.extend(each_id(verdict.waiting.iter().map(|waiting| &waiting.ids)));
        let findings = verdict.unknown.iter().map(|unknown| &unknown.ids);
        let findings = findings.chain(verdict.waiting.iter().map(|waiting| &waiting.ids));
        let tails: BTreeSet<u64> = findings
            .filter_map(|ids| if let Ids::TailOf { session } = ids { Some(*session) } else { None })
            .collect();
        let done = history.done();
        for id in history.accepted().iter().filter(|id| !done.contains(id)) {
            prop_assert!(
                open.contains(id) || tails.contains(&id.session),
                "LEDGER-1: {} has not arrived, and nothing says so: {:?}", id, verdict.outcome
            );
        }
        if !truth.is_empty() {
            prop_assert_ne!(verdict.outcome, Outcome::Complete, "LEDGER-1");
        }
    }
}

/// No false alarm and no miss in a million messages.
#[test]
fn a_million_messages() {
    let history = History::play(Shape {
        seed: 20_261_124,
        messages: 1_000_000,
        partitions: 8,
        groups: 2,
        losses: 20,
        oddities: 2_000,
        crashes: 20,
        unconsumed: 0,
    });
    let verdict = judge(&history, &history.receipts());
    assert!(history.losses().len() > 100);
    assert_exact(&history, &verdict);
    assert!(verdict.stages.resent > 1_000, "restarts have sent again: {}", verdict.stages.resent);
}
