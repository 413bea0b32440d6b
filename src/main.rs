//! `tickgen`: parse, plan, run, exit code.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use tickgen::cli::{self, Cli};
use tickgen::config::Settings;
use tickgen::observe::{Summary, init_logs};
use tickgen::plan::{Plan, SummaryTo};
use tickgen::run::{RunError, Stops, run};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::Level;

const RUN_FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;
const THRESHOLD_MISSED: u8 = 99;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let plan = match plan(cli) {
        Ok(plan) => plan,
        Err(mistakes) => {
            for mistake in &mistakes {
                eprintln!("error: {mistake}");
            }
            eprintln!("\nNothing was sent. tickgen --help lists every setting.");
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
            eprintln!("error: {mistake}\n\nNothing was sent.");
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
    let path = cli.config.or_else(|| std::env::var_os("TICKGEN_CONFIG").map(PathBuf::from));
    let file = match &path {
        None => None,
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => Some((path.as_path(), text)),
            Err(error) => return Err(vec![format!("--config {}: {error}", path.display())]),
        },
    };
    let file = file.as_ref().map(|(path, text)| (*path, text.as_str()));
    let variables =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let (settings, mut mistakes) = Settings::layer(file, variables, cli.flags);
    let plan = Plan::new(&settings, u64::from(rand::random::<u32>()));
    match plan {
        Ok(plan) if mistakes.is_empty() => return Ok(plan),
        Ok(_) => {}
        Err(more) => mistakes.extend(more),
    }
    let mut texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    texts.sort();
    Err(texts)
}

fn report(plan: &Plan, summary: &Summary) -> ExitCode {
    if !plan.output.quiet {
        eprint!("{summary}");
    }
    if let Some(to) = &plan.output.summary
        && let Err(error) = write_summary(to, summary)
    {
        return failed(&format!("the summary could not be written: {error}"));
    }
    if summary.error.is_some() || !summary.balanced {
        ExitCode::from(RUN_FAILED)
    } else if summary.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(THRESHOLD_MISSED)
    }
}

fn write_summary(to: &SummaryTo, summary: &Summary) -> std::io::Result<()> {
    let mut json = serde_json::to_vec_pretty(summary)?;
    json.push(b'\n');
    match to {
        SummaryTo::Stdout => std::io::stdout().write_all(&json),
        SummaryTo::File(path) => std::fs::write(path, json),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(RUN_FAILED)
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
