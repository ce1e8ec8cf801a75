//! The demo's analysis service, a stand-in for a real model: a small lexicon gives the sentiment,
//! runs of capitalised words are the entities.
//!
//! It fails like the one in the article this project grew from: after a number of answers it
//! answers HTTP 500 for a while, then it hangs past every time-out for a while, then it is well.

use core::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use lossproof_env::{Clock, Net, RealClock, RealNet};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::exit::{DEMO_FAILED, Exit, Failure};
use crate::http::Front;
use crate::output::say;

/// How long a hanging request is held. Longer than any sane client waits, and yet bounded.
const HANG: Duration = Duration::from_mins(1);

const GOOD: &[&str] = &[
    "agreed", "best", "better", "calm", "good", "great", "growth", "happy", "improve", "love",
    "peace", "profit", "record", "relief", "safe", "strong", "success", "win", "won",
];
const BAD: &[&str] = &[
    "angry", "bad", "collapse", "crash", "crisis", "dead", "fail", "failed", "fear", "fire",
    "flood", "loss", "lost", "sad", "strike", "war", "weak", "worse", "worst",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Answers before the service begins to fail
    #[arg(long, default_value_t = u64::MAX)]
    fail_after: u64,
    /// Milliseconds of HTTP 500
    #[arg(long, default_value_t = 0)]
    error_ms: u64,
    /// Milliseconds of hanging, after that
    #[arg(long, default_value_t = 0)]
    hang_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Question {
    text: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Analysis {
    /// Always "stand-in": nobody shall take this for a model's answer.
    model: &'static str,
    entities: Vec<Entity>,
    /// From -1 (bad) to 1 (good).
    sentiment: f64,
}

/// Positions count Unicode code points, as those of the real service do.
#[derive(Debug, PartialEq, Serialize)]
struct Entity {
    text: String,
    start: usize,
    end: usize,
}

#[derive(Debug)]
enum Health {
    Well { answers_left: u64 },
    Failing { since: Duration },
}

#[derive(Debug)]
struct Service {
    clock: Arc<dyn Clock>,
    error: Duration,
    hang: Duration,
    health: Mutex<Health>,
}

enum Behaviour {
    Answer,
    Error,
    Hang,
}

impl Service {
    fn behaviour(&self) -> Behaviour {
        let now = self.clock.monotonic();
        let mut health = self.health.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &mut *health {
            Health::Well { answers_left: 0 } => {
                *health = Health::Failing { since: now };
                Behaviour::Error
            }
            Health::Well { answers_left } => {
                *answers_left -= 1;
                Behaviour::Answer
            }
            Health::Failing { since } => match now.saturating_sub(*since) {
                age if age < self.error => Behaviour::Error,
                age if age < self.error + self.hang => Behaviour::Hang,
                _ => {
                    *health = Health::Well { answers_left: u64::MAX };
                    Behaviour::Answer
                }
            },
        }
    }
}

async fn analyze(State(service): State<Arc<Service>>, Json(question): Json<Question>) -> Response {
    match service.behaviour() {
        Behaviour::Answer => Json(analysis(&question.text)).into_response(),
        Behaviour::Error => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the model has crashed").into_response()
        }
        Behaviour::Hang => {
            service.clock.sleep(HANG).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
    }
}

fn analysis(text: &str) -> Analysis {
    let (mut good, mut bad) = (0.0, 0.0);
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        let word = word.to_lowercase();
        good += f64::from(u8::from(GOOD.binary_search(&word.as_str()).is_ok()));
        bad += f64::from(u8::from(BAD.binary_search(&word.as_str()).is_ok()));
    }
    let sentiment = if good + bad > 0.0 { (good - bad) / (good + bad) } else { 0.0 };
    Analysis { model: "stand-in", entities: entities(text), sentiment }
}

/// Runs of words that begin with a capital letter.
fn entities(text: &str) -> Vec<Entity> {
    let characters: Vec<char> = text.chars().collect();
    let mut found: Vec<Entity> = Vec::new();
    let mut at = 0;
    let mut joins_previous = false;
    while let Some(&first) = characters.get(at) {
        if !first.is_alphanumeric() {
            joins_previous &= first == ' ';
            at += 1;
            continue;
        }
        let rest = characters.get(at..).unwrap_or_default();
        let end = at + rest.iter().take_while(|c| c.is_alphanumeric()).count();
        let capital = first.is_uppercase();
        match found.last_mut() {
            Some(last) if capital && joins_previous => {
                last.end = end;
                last.text = characters.get(last.start..end).unwrap_or_default().iter().collect();
            }
            _ if capital => {
                let text = characters.get(at..end).unwrap_or_default().iter().collect();
                found.push(Entity { text, start: at, end });
            }
            _ => {}
        }
        joins_previous = capital;
        at = end;
    }
    found
}

/// Serves until it is killed; prints `ready url=...` when it does.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let (clock, net): (Arc<dyn Clock>, _) = (Arc::new(RealClock::new()), RealNet);
    let failed = |what: &str, error: std::io::Error| {
        Failure::new(DEMO_FAILED, format_args!("analysis service: {what}: {error}"))
    };
    let service = Arc::new(Service {
        clock: clock.clone(),
        error: Duration::from_millis(arguments.error_ms),
        hang: Duration::from_millis(arguments.hang_ms),
        health: Mutex::new(Health::Well { answers_left: arguments.fail_after }),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("no runtime", error))?;
    runtime.block_on(async {
        let listener =
            net.listen(arguments.listen).await.map_err(|error| failed("cannot listen", error))?;
        let address = listener.local_address().map_err(|error| failed("no address", error))?;
        say!("ready url=http://{address}/analyze");
        let router = Router::new().route("/analyze", post(analyze)).with_state(service);
        let front = Front::new(listener, clock);
        axum::serve(front, router).await.map_err(|error| failed("stopped", error))?;
        Ok(Exit::Proven)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_lists_are_sorted_for_the_search() {
        assert!(GOOD.is_sorted() && BAD.is_sorted());
    }

    #[test]
    fn finds_capitalised_runs_by_code_point() {
        let text = "Im März traf Anna Müller, Bürgermeisterin, den Chor. Great success, no crash!";
        let analysis = analysis(text);
        let names: Vec<_> = analysis.entities.iter().map(|entity| entity.text.as_str()).collect();
        assert_eq!(names, ["Im März", "Anna Müller", "Bürgermeisterin", "Chor", "Great"]);
        for entity in &analysis.entities {
            let by_position: String =
                text.chars().skip(entity.start).take(entity.end - entity.start).collect();
            assert_eq!(by_position, entity.text);
        }
        assert!((analysis.sentiment - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn fails_after_the_given_answers_then_hangs_then_recovers() {
        let clock = Arc::new(lossproof_env::ManualClock::new(0));
        let service = Service {
            clock: clock.clone(),
            error: Duration::from_secs(2),
            hang: Duration::from_secs(3),
            health: Mutex::new(Health::Well { answers_left: 1 }),
        };
        assert!(matches!(service.behaviour(), Behaviour::Answer));
        assert!(matches!(service.behaviour(), Behaviour::Error));
        clock.advance(Duration::from_secs(2));
        assert!(matches!(service.behaviour(), Behaviour::Hang));
        clock.advance(Duration::from_secs(3));
        assert!(matches!(service.behaviour(), Behaviour::Answer));
        assert!(matches!(service.behaviour(), Behaviour::Answer));
    }
}
