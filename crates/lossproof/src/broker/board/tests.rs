//! What operators read, of each state and each figure.

use lossproof_broker::{GroupFigures, OffsetFigures, TopicFigures};
use lossproof_log::{Bounded, Helper, Histogram, LogFigures, ScrubFigures};

use super::*;

#[test]
fn only_who_serves_everybody_is_ready_and_a_thread_that_has_ended_is_named() {
    let ended = [(Helper::Move, "no room"), (Helper::Scrub, "a panic")];
    let ended = ended.map(|(thread, cause)| Ended { thread, cause: cause.into() });
    for (readiness, expected) in [
        (Some(Readiness::Ready), (200, "ready\n")),
        (Some(Readiness::Draining), (503, "draining\n")),
        (Some(Readiness::Fenced), (503, "fenced\n")),
        (Some(Readiness::Damaged), (503, "damaged\n")),
        (Some(Readiness::DiskFull), (503, "disk full\n")),
        (None, (503, "recovering\n")),
    ] {
        let (status, text) = ready(readiness, &[]);
        assert_eq!((status.as_u16(), &*text), expected);
        let (status, text) = ready(readiness, &ended);
        let lines = expected.1.to_owned() + "thread move: no room\nthread scrub: a panic\n";
        assert_eq!((status.as_u16(), text), (expected.0, lines));
    }
}

#[test]
fn who_hangs_is_not_alive() {
    assert_eq!(alive(true), (StatusCode::OK, "alive\n"));
    assert_eq!(alive(false), (StatusCode::SERVICE_UNAVAILABLE, "hangs: start it again\n"));
}

/// Before there is anything to show.
#[tokio::test]
async fn who_recovers_is_alive_and_not_ready() {
    let board = || State(Board::default());
    assert_eq!(liveness(board()).await.status(), StatusCode::OK);
    assert_eq!(readiness(board()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(metrics(board()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// Each number once, so that none is shown in the place of another.
fn figures() -> Figures {
    let histogram = |first: u64| Histogram {
        buckets: vec![(first, 1), (first * 2, 2)],
        beyond: 3,
        sum: first * 10,
    };
    Figures {
        node_id: 135,
        log: LogFigures {
            sync_us: histogram(1_000_000),
            frame_bytes: histogram(4_096),
            frame_batches: histogram(5),
            queue_bytes: 101,
            ballast_bytes: 102,
            is_disk_full: true,
            scrub: ScrubFigures {
                bytes: 103,
                round_bytes: 104,
                round_total_bytes: 105,
                finished_ms: Some(106_999),
                findings: 107,
            },
            index_entries: Bounded { used: 108, max: 109 },
            state_bytes: Bounded { used: 110, max: 111 },
            producers: Bounded { used: 112, max: 113 },
            transactions: Bounded { used: 114, max: 115 },
            ended: vec![Ended { thread: Helper::Move, cause: "no room".into() }],
        },
        is_fenced: true,
        quarantined: 116,
        accepted: 117,
        unsafe_partitions: 118,
        unsafe_default: true,
        connections: 119,
        connections_refused: 120,
        batches_refused: 121,
        fetches_damaged: 132,
        requests: vec![("Fetch".into(), 122), ("Produce".into(), 123)],
        topics: vec![TopicFigures {
            name: "news".into(),
            partitions: [(0, (124, 125)), (2, (126, 127))].into(),
            partition_count: 3,
        }],
        groups: vec![GroupFigures {
            name: "g".into(),
            members: 128,
            offsets: [(0, 129, Some(130)), (1, 131, None), (2, 133, Some(134))]
                .map(|(partition, offset, lag)| OffsetFigures {
                    topic: "news".into(),
                    partition,
                    offset,
                    lag,
                    is_above_end: lag.is_none(),
                })
                .into(),
        }],
    }
}

#[test]
fn each_figure_has_its_place() {
    let page = page(figures()).unwrap();
    let samples: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(samples, SAMPLES.lines().collect::<Vec<_>>());
    assert!(page.ends_with("# EOF\n"), "{page}");
}

/// In the order of the page.
const SAMPLES: &str = include_str!("samples.txt");
