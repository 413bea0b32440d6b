//! `tickgen`: parse, plan, run, exit code.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use tickgen::cli::{self, Cli};
use tickgen::config::{ConfigError, Settings};
use tickgen::observe::{Summary, init_logs};
use tickgen::plan::{Plan, WriteTo};
use tickgen::run::{RunError, Stops, run};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::Level;

const RUN_FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;
const NOT_PROVED: u8 = 98;
const THRESHOLD_MISSED: u8 = 99;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let plan = match plan(cli) {
        Ok(plan) => plan,
        Err(mistakes) => {
            let mistakes = mistakes.join("\nerror: ");
            tell(&format!("error: {mistakes}\n\nNothing was sent. tickgen --help lists every setting.\n"));
            return ExitCode::from(BAD_USAGE);
        }
    };
    // With --quiet only what went wrong is told.
    let log_level =
        if plan.output.quiet { plan.output.log_level.min(Level::WARN) } else { plan.output.log_level };
    init_logs(log_level, plan.output.log_json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no threads to run on: {error}")),
    };
    let ended = runtime.block_on(async {
        match Signals::listen() {
            Ok(signals) => run(&plan, signals).await.map_err(Failure::Run),
            Err(error) => Err(Failure::Signals(error)),
        }
    });
    // Tasks that hang in the kernel must not hold the exit.
    runtime.shutdown_background();
    match ended {
        Ok(summary) => report(&plan, &summary),
        Err(Failure::Run(RunError::Plan(mistake))) => {
            tell(&format!("error: {mistake}\n\nNothing was sent.\n"));
            ExitCode::from(BAD_USAGE)
        }
        Err(Failure::Run(error)) => failed(&error.to_string()),
        Err(Failure::Signals(error)) => failed(&format!("signals cannot be listened for: {error}")),
    }
}

enum Failure {
    Run(RunError),
    Signals(std::io::Error),
}

fn plan(cli: Cli) -> Result<Plan, Vec<String>> {
    let mut mistakes = Vec::new();
    let file = read_config(cli.config, &mut mistakes);
    let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
    let (settings, more) = Settings::layer(file, variables(&mut mistakes), cli.flags);
    mistakes.extend(more);
    let plan = Plan::new(&settings, u64::from(rand::random::<u32>()));
    match plan {
        Ok(plan) if mistakes.is_empty() => match check_summary(plan.output.summary.as_ref()) {
            Ok(()) => return Ok(plan),
            Err(mistake) => mistakes.push(mistake),
        },
        Ok(_) => {}
        Err(more) => mistakes.extend(more),
    }
    let mut texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    texts.sort();
    Err(texts)
}

fn read_config(flag: Option<PathBuf>, mistakes: &mut Vec<ConfigError>) -> Option<(PathBuf, String)> {
    let (path, named) = match (flag, std::env::var_os("TICKGEN_CONFIG").filter(|path| !path.is_empty())) {
        (Some(path), _) => (path, "--config "),
        (None, Some(path)) => (path.into(), "TICKGEN_CONFIG="),
        (None, None) => return None,
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Some((path, text)),
        Err(error) => {
            mistakes.push(ConfigError::elsewhere(format!("{named}{}", path.display()), error));
            None
        }
    }
}

/// The `TICKGEN_*` variables; one that is not Unicode is a mistake, not absent.
fn variables(mistakes: &mut Vec<ConfigError>) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("TICKGEN_")) else { continue };
        match value.into_string() {
            Ok(value) => variables.push((name.to_owned(), value)),
            Err(value) => {
                mistakes.push(ConfigError::elsewhere(name, format!("{} is not UTF-8", value.display())));
            }
        }
    }
    variables
}

/// Opens the summary's file once, so that a run does not end without a place for its result.
fn check_summary(summary: Option<&WriteTo>) -> Result<(), ConfigError> {
    let Some(WriteTo::File(path)) = summary else { return Ok(()) };
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|error| ConfigError::elsewhere(format!("--summary {}", path.display()), error))
}

fn report(plan: &Plan, summary: &Summary) -> ExitCode {
    let written = plan.output.summary.as_ref().map_or(Ok(()), |to| write_summary(to, summary));
    if !plan.output.quiet {
        tell(&summary.to_string());
    }
    if let Err(error) = written {
        return failed(&format!("the summary could not be written: {error}"));
    }
    if summary.failed() {
        ExitCode::from(RUN_FAILED)
    } else if !summary.proved() {
        ExitCode::from(NOT_PROVED)
    } else if summary.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(THRESHOLD_MISSED)
    }
}

fn write_summary(to: &WriteTo, summary: &Summary) -> std::io::Result<()> {
    let mut json = serde_json::to_vec_pretty(summary)?;
    json.push(b'\n');
    match to {
        WriteTo::Stdout => std::io::stdout().write_all(&json),
        WriteTo::File(path) => std::fs::write(path, json),
    }
}

fn failed(why: &str) -> ExitCode {
    tell(&format!("error: {why}\n"));
    ExitCode::from(RUN_FAILED)
}

/// Writes to stderr; that nobody reads it is not the run's concern.
fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }
}

impl Stops for Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
