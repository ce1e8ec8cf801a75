//! `lossproof demo`: the whole pipeline on this machine, its processes killed and its service
//! failing, and at the end the proof, message by message.

mod children;
mod evidence;
mod input;
mod scene;
mod service;
mod settings;
mod talk;
mod unsafe_run;
mod verdict;
mod witness;

use std::path::PathBuf;
use std::sync::Arc;

use lossproof_env::Environment;

pub(crate) use self::children::end_with_parent;
use self::input::Line;
use self::scene::{GROUP, Mode, Scene};
pub(crate) use self::service::{Arguments as ServiceArguments, run as run_service};
use self::talk::Talk;
use self::witness::{DeadLetterCount, Witness};
use crate::Outcome;
use crate::exit::{DEMO_FAILED, Failure};
use crate::files::read_text;
use crate::stop::Stop;

/// Seconds after which the demo stops waiting and judges what there is.
const PATIENCE_SECONDS: f64 = 90.0;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lossproof demo\n  lossproof demo --unsafe\n  \
                        lossproof demo --input FILE.jsonl\n\n\
                        Each line of FILE.jsonl is an object with a unique string 'id' and a \
                        string 'text'.\n\
                        Ends with 0 when it is proven that nothing is lost, 3 when something is.")]
pub(crate) struct Arguments {
    /// The same with settings that lose messages, to see them lost and found by name
    #[arg(long = "unsafe")]
    lossy: bool,
    /// Records to send instead of the sample text
    #[arg(long, value_name = "FILE.jsonl")]
    input: Option<PathBuf>,
    /// Keep the directory with journal, log and sink, and print where it is
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(arguments: &Arguments, environment: Environment) -> Outcome {
    let lines = read_input(arguments, &environment)?;
    let stop = Stop::on_signals(
        "interrupted: ending everything that the demo started",
        "stopped at once; the kernel ends the other processes",
        || {},
    )?;
    let directory = tempfile::Builder::new()
        .prefix("lossproof-demo-")
        .tempdir()
        .map_err(|error| Failure::new(DEMO_FAILED, format_args!("no directory: {error}")))?;
    let talk = Talk::new(Arc::clone(&environment.clock), lines.len());
    let mode = if arguments.lossy { Mode::Unsafe } else { Mode::Safe };
    talk.event(settings::describe(mode));
    let mut scene = Scene::start(environment, directory.path(), mode, talk.clone())?;
    let played = match mode {
        Mode::Safe => play_safe(&mut scene, &lines, &stop),
        Mode::Unsafe => unsafe_run::play(&mut scene, &lines, &stop),
    };
    let outcome = played.and_then(|()| verdict::give(&mut scene, &lines));
    talk.finish();
    scene.end();
    if arguments.keep {
        crate::output::mutter!("kept: {}", directory.keep().display());
    } else if let Err(error) = directory.close() {
        crate::output::mutter!("the demo's directory could not be removed: {error}");
    }
    outcome
}

fn read_input(arguments: &Arguments, environment: &Environment) -> Result<Vec<Line>, Failure> {
    let Some(path) = &arguments.input else { return input::sample() };
    let origin = path.display().to_string();
    let text = read_text(&*environment.disk, path).map_err(|error| {
        Failure::new(DEMO_FAILED, format_args!("{origin} cannot be read: {error}"))
    })?;
    input::parse(&text, &origin)
}

/// One look at the stage; an error where the demo was told to stop.
fn look(scene: &mut Scene, stop: &Stop) -> Result<(), Failure> {
    if stop.is_set() {
        return Err(Failure::new(DEMO_FAILED, "interrupted; everything it started is ended"));
    }
    scene.look()
}

/// Who has had its SIGKILL.
#[derive(Debug, Default)]
struct Killed {
    producer: bool,
    broker: bool,
    pipeline: bool,
}

/// Producer, broker and pipeline are each killed once, at a quarter, a third and a half.
fn play_safe(scene: &mut Scene, lines: &[Line], stop: &Stop) -> Result<(), Failure> {
    let text: String = lines.iter().flat_map(|line| [line.json.as_str(), "\n"]).collect();
    let input = scene.write("input.jsonl", text.as_bytes())?;
    scene.start_pipeline()?;
    scene.start_safe_producer(&input)?;
    let total = lines.len();
    let mut killed = Killed::default();
    let mut dead_letters = DeadLetterCount::new(Witness::new(&scene.bootstrap, GROUP)?);
    loop {
        look(scene, stop)?;
        let ended = scene.sink_lines() + dead_letters.look();
        if !killed.producer && scene.accepted.len() >= total / 4 {
            scene.kill_producer();
            scene.talk.event("SIGKILL to the producer; it starts again on its journal");
            scene.start_safe_producer(&input)?;
            killed.producer = true;
        }
        if !killed.broker && ended >= total / 3 {
            scene.kill_broker();
            scene.talk.event("SIGKILL to the broker, with all that is not on its disk lost");
            scene.restart_broker()?;
            killed.broker = true;
        }
        if !killed.pipeline && ended >= total / 2 {
            scene.kill_pipeline();
            scene.talk.event("SIGKILL to the pipeline; another one takes its place");
            scene.start_pipeline()?;
            killed.pipeline = true;
        }
        let all_killed = killed.producer && killed.broker && killed.pipeline;
        if all_killed && scene.producer.is_none() && ended >= total {
            scene.talk.event("the producer is done, and each line is in the sink or a dead letter");
            return scene.stop_pipeline();
        }
        if scene.talk.seconds() > PATIENCE_SECONDS {
            scene.talk.event("patience is over: judging what there is");
            return scene.stop_pipeline();
        }
    }
}
