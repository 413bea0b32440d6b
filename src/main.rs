//! `tickgen`: parse, plan, run, exit code.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tickgen::admin::Probe;
use tickgen::cli::{self, Cli, Task};
use tickgen::config::{ConfigError, Settings};
use tickgen::observe::{Summary, init_logs};
use tickgen::plan::{Output, Plan, SearchPlan, WriteTo};
use tickgen::run::{RunError, Stops, run, search};
use tickgen::search::{SearchSummary, Verdict};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::Level;

/// Longest wait for the answer to `tickgen health`; container runtimes wait longer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

const RUN_FAILED: u8 = 1;
const BAD_USAGE: u8 = 2;
const NOT_PROVED: u8 = 98;
const THRESHOLD_MISSED: u8 = 99;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    if let Task::Health(url) = cli.task {
        return health(url);
    }
    let plan = match plan(cli) {
        Ok(plan) => plan,
        Err(mistakes) => {
            let mistakes = mistakes.join("\nerror: ");
            tell(&format!("error: {mistakes}\n\nNothing was sent. tickgen --help lists every setting.\n"));
            return ExitCode::from(BAD_USAGE);
        }
    };
    let output = plan.output();
    // With --quiet only what went wrong is told.
    init_logs(
        if output.quiet { output.log_level.min(Level::WARN) } else { output.log_level },
        output.log_json,
    );
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no threads to run on: {error}")),
    };
    let ended = runtime.block_on(async {
        match Signals::listen() {
            Ok(signals) => plan.carry_out(signals).await.map_err(Failure::Run),
            Err(error) => Err(Failure::Signals(error)),
        }
    });
    // Tasks that hang in the kernel must not hold the exit.
    runtime.shutdown_background();
    match ended {
        Ok(summary) => report(plan.output(), &summary),
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

/// What is to be done.
enum Planned {
    Run(Plan),
    Search(SearchPlan),
}

/// What came of it.
enum Done {
    Run(Box<Summary>),
    Search(Box<SearchSummary>),
}

impl Planned {
    fn new(task: &Task, settings: &Settings) -> Result<Self, Vec<ConfigError>> {
        let random_seed = u64::from(rand::random::<u32>());
        match task {
            // Health is told without a plan, before this.
            Task::Run | Task::Health(_) => Plan::new(settings, random_seed).map(Self::Run),
            Task::Search => SearchPlan::new(settings, random_seed).map(Self::Search),
        }
    }

    fn output(&self) -> &Output {
        match self {
            Self::Run(plan) => &plan.output,
            Self::Search(plan) => &plan.runs().output,
        }
    }

    async fn carry_out(&self, stops: impl Stops) -> Result<Done, RunError> {
        match self {
            Self::Run(plan) => run(plan, stops).await.map(Box::new).map(Done::Run),
            Self::Search(plan) => search(plan, stops).await.map(Box::new).map(Done::Search),
        }
    }
}

impl Done {
    fn json(&self) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::Run(summary) => serde_json::to_vec_pretty(summary),
            Self::Search(summary) => serde_json::to_vec_pretty(summary),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Run(summary) => summary.to_string(),
            Self::Search(summary) => summary.to_string(),
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Run(summary) if summary.failed() => RUN_FAILED,
            Self::Run(summary) if !summary.proved() => NOT_PROVED,
            Self::Run(summary) if !summary.passed() => THRESHOLD_MISSED,
            Self::Run(_) => 0,
            Self::Search(summary) => match summary.verdict {
                Verdict::Found | Verdict::HeldThroughout => 0,
                Verdict::NeverHeld => THRESHOLD_MISSED,
                Verdict::Stopped | Verdict::Failed => RUN_FAILED,
            },
        }
    }
}

fn plan(cli: Cli) -> Result<Planned, Vec<String>> {
    let mut mistakes = Vec::new();
    let file = read_config(cli.config, &mut mistakes);
    let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
    let (settings, more) = Settings::layer(file, variables(&mut mistakes), cli.flags);
    mistakes.extend(more);
    match Planned::new(&cli.task, &settings) {
        Ok(plan) if mistakes.is_empty() => match check_summary(plan.output().summary.as_ref()) {
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

/// Asks a running tickgen whether it is well.
fn health(url: Option<Probe>) -> ExitCode {
    let url = match url.map_or_else(own_livez, Ok) {
        Ok(url) => url,
        Err(mistakes) => return failed(&mistakes),
    };
    match url.get(HEALTH_TIMEOUT) {
        Ok(200..300) => ExitCode::SUCCESS,
        Ok(status) => failed(&format!("{url} answers with status {status}")),
        Err(error) => failed(&format!("{url}: {error}")),
    }
}

/// Where the tickgen with the settings of this environment answers.
fn own_livez() -> Result<Probe, String> {
    let mut mistakes = Vec::new();
    let file = read_config(None, &mut mistakes);
    let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
    // Other settings and their mistakes are the run's concern.
    let (settings, _) = Settings::layer(file, variables(&mut mistakes), Vec::new());
    let addr = Plan::admin_addr(&settings).unwrap_or_else(|more| {
        mistakes.extend(more);
        None
    });
    match (addr, mistakes.first()) {
        (_, Some(mistake)) => Err(mistake.to_string()),
        (Some(addr), None) => Ok(Probe::livez(addr)),
        (None, None) => Err("no address to ask: give a URL, or set TICKGEN_ADMIN_ADDR".into()),
    }
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

fn report(output: &Output, summary: &Done) -> ExitCode {
    let written = output.summary.as_ref().map_or(Ok(()), |to| write_summary(to, summary));
    if !output.quiet {
        tell(&summary.text());
    }
    if let Err(error) = written {
        return failed(&format!("the summary could not be written: {error}"));
    }
    ExitCode::from(summary.exit_code())
}

fn write_summary(to: &WriteTo, summary: &Done) -> std::io::Result<()> {
    let mut json = summary.json()?;
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
