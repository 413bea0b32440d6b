//! `tickgen`: parse, plan, run, exit code.

use std::io::{ErrorKind, IsTerminal as _, Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tickgen::admin::Probe;
use tickgen::cli::{self, Cli, Task};
use tickgen::config::{ConfigError, Raw, Settings};
use tickgen::observe::report::page;
use tickgen::observe::{Calibration, Summary, VerifyReport, VerifySummary, init_logs};
use tickgen::plan::{CalibratePlan, Output, Plan, SearchPlan, Target, Ui, VerifyPlan, WriteTo};
use tickgen::run::{Reload, RunError, Signals, Sources, Stops, calibrate, run_reloading, search, verify};
use tickgen::search::{SearchSummary, Verdict};
use tickgen::settings::Key;
use tickgen::terminal;
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
    match cli.task {
        Task::Health(url) => return health(url, cli.config, cli.flags),
        Task::Report(task) => return report_on(&task),
        _ => {}
    }
    let (plan, sources) = match plan(cli) {
        Ok(planned) => planned,
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
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = plan.threads(sources.is_some()) {
        runtime.worker_threads(threads);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("no threads to run on: {error}")),
    };
    let ended = runtime.block_on(async {
        let reloads = sources.is_some() && matches!(plan, Planned::Run(_));
        match Signals::listen(reloads) {
            Ok(signals) => Box::pin(plan.carry_out(signals, sources)).await,
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
    Verify(VerifyPlan),
    Calibrate(CalibratePlan),
}

/// What came of it.
enum Done {
    Run(Box<Summary>),
    Search(Box<SearchSummary>),
    Verify(Box<VerifyReport>),
    Calibrate(Box<Calibration>),
}

impl Planned {
    fn new(task: &Task, settings: &Settings) -> Result<Self, Vec<ConfigError>> {
        let random_seed = u64::from(rand::random::<u32>());
        match task {
            // Health and reports need no plan; they are done before this.
            Task::Run | Task::Health(_) | Task::Report(_) => Plan::new(settings, random_seed).map(Self::Run),
            Task::Search => SearchPlan::new(settings, random_seed).map(Self::Search),
            Task::Verify => VerifyPlan::new(settings).map(Self::Verify),
            Task::Calibrate => CalibratePlan::new(settings, random_seed).map(Self::Calibrate),
        }
    }

    /// How many threads it takes; `None`: one for each processor.
    fn threads(&self, rereads: bool) -> Option<usize> {
        match self {
            Self::Run(plan) => plan.threads(rereads),
            // Its rates are found out.
            Self::Search(plan) => plan.runs().threads,
            Self::Verify(_) | Self::Calibrate(_) => None,
        }
    }

    fn output(&self) -> &Output {
        match self {
            Self::Run(plan) => &plan.output,
            Self::Search(plan) => &plan.runs().output,
            Self::Verify(plan) => &plan.output,
            Self::Calibrate(plan) => &plan.run().output,
        }
    }

    /// Decides how a run is shown: live, where that is asked for or, unless lines are, can be.
    fn choose_ui(&mut self) -> Result<(), ConfigError> {
        let Output { ui, quiet, .. } = *self.output();
        let obstacle = self.ui_obstacle();
        if let (Ui::Live, false, Some(why)) = (ui, quiet, &obstacle) {
            return Err(ConfigError::elsewhere("--ui live", why));
        }
        if let Self::Run(plan) = self {
            plan.output.ui = if ui != Ui::Plain && obstacle.is_none() { Ui::Live } else { Ui::Plain };
        }
        Ok(())
    }

    /// Why it can't be shown live.
    fn ui_obstacle(&self) -> Option<String> {
        match self {
            Self::Search(_) => Some("a search is shown line by line".into()),
            Self::Verify(_) => Some("a proof is not shown live".into()),
            Self::Calibrate(_) => Some("a calibration is not shown live".into()),
            Self::Run(Plan { target: Target::Lines(WriteTo::Stdout), .. }) if stdout().is_terminal() => {
                Some("--to stdout writes to the terminal".into())
            }
            Self::Run(_) => terminal::obstacle(),
        }
    }

    async fn carry_out(&self, stops: impl Stops, read: Option<Read>) -> Result<Done, Failure> {
        let done = match self {
            Self::Run(plan) => {
                let watch = plan.output.watch_config;
                let reload = read.map(|(sources, settings)| Reload::new(sources, settings, watch));
                let reload = reload.transpose().map_err(Failure::Signals)?;
                run_reloading(plan, stops, reload).await.map(Box::new).map(Done::Run)
            }
            Self::Search(plan) => search(plan, stops).await.map(Box::new).map(Done::Search),
            Self::Verify(plan) => verify(plan, stops).await.map(Box::new).map(Done::Verify),
            Self::Calibrate(plan) => calibrate(plan, stops).await.map(Box::new).map(Done::Calibrate),
        };
        done.map_err(Failure::Run)
    }
}

impl Done {
    fn json(&self) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::Run(summary) => serde_json::to_vec_pretty(summary),
            Self::Search(summary) => serde_json::to_vec_pretty(summary),
            Self::Verify(report) => serde_json::to_vec_pretty(report),
            Self::Calibrate(calibration) => serde_json::to_vec_pretty(calibration),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Run(summary) => summary.to_string(),
            Self::Search(summary) => summary.to_string(),
            Self::Verify(report) => report.to_string(),
            Self::Calibrate(calibration) => calibration.to_string(),
        }
    }

    /// What went wrong, which is told even where nothing else is.
    fn wrongs(&self) -> Vec<String> {
        let (wrong, thresholds) = match self {
            Self::Run(summary) => {
                let unproved = summary.verify.as_ref().and_then(VerifySummary::unproved);
                (summary.failure().or(unproved), &summary.thresholds[..])
            }
            Self::Search(summary) => (summary.failure(), &[][..]),
            Self::Verify(report) => (report.unproved(), &report.thresholds[..]),
            Self::Calibrate(_) => (None, &[][..]),
        };
        let missed = thresholds.iter().filter(|threshold| !threshold.passed);
        let error = wrong.map(|wrong| format!("error: {wrong}"));
        error.into_iter().chain(missed.map(ToString::to_string)).collect()
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Run(summary) if summary.failed() => RUN_FAILED,
            Self::Run(summary) if !summary.proved() => NOT_PROVED,
            Self::Run(summary) if !summary.passed() => THRESHOLD_MISSED,
            Self::Verify(report) if !report.proved() => NOT_PROVED,
            Self::Verify(report) if !report.passed() => THRESHOLD_MISSED,
            Self::Run(_) | Self::Verify(_) | Self::Calibrate(_) => 0,
            Self::Search(summary) => match summary.verdict {
                Verdict::Found | Verdict::HeldThroughout => 0,
                Verdict::NeverHeld => THRESHOLD_MISSED,
                Verdict::Stopped | Verdict::Failed => RUN_FAILED,
            },
        }
    }
}

/// Where the settings of a run with a config file came from, and what they are.
type Read = (Sources, Settings);

fn plan(cli: Cli) -> Result<(Planned, Option<Read>), Vec<String>> {
    let mut mistakes = Vec::new();
    let file = read_config(cli.config, &mut mistakes);
    let variables = variables(&mut mistakes);
    let borrowed = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
    let (settings, more) = Settings::layer(borrowed, variables.clone(), cli.flags.clone());
    mistakes.extend(more);
    let watched = settings.get(Key::WatchConfig);
    if file.is_none() && watched.texts == ["true"] {
        mistakes.push(ConfigError::new(
            Key::WatchConfig,
            watched,
            "needs a config file to watch: --config FILE",
        ));
    }
    match Planned::new(&cli.task, &settings) {
        Ok(mut plan) if mistakes.is_empty() => {
            let config = file.as_ref().map(|(path, _)| path.as_path());
            mistakes.extend(settings.check_files(config, matches!(plan, Planned::Verify(_))));
            mistakes.extend(plan.output().check_files());
            mistakes.extend(plan.choose_ui().err());
            if mistakes.is_empty() {
                let sources = |(path, text)| Sources { path, text, variables, flags: cli.flags };
                return Ok((plan, file.map(sources).map(|sources| (sources, settings))));
            }
        }
        Ok(_) => {}
        Err(more) => mistakes.extend(more),
    }
    let mut texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    texts.sort();
    Err(texts)
}

/// Adds up, compares or shows runs that have ended.
fn report_on(task: &cli::ReportTask) -> ExitCode {
    use tickgen::run::report::{Reported, report};
    match report(task) {
        Ok(Reported::Merged(summary)) => {
            tell(&summary.to_string());
            ExitCode::from(Done::Run(summary).exit_code())
        }
        Ok(Reported::Compared(comparison)) => {
            let regressed = comparison.regressed();
            // The JSON has stdout, if it was asked for there.
            let on_stdout = matches!(task, cli::ReportTask::Compare { json: Some(WriteTo::Stdout), .. });
            if on_stdout {
                tell(&comparison.to_string());
            } else {
                let mut to = stdout();
                let written = write!(to, "{comparison}").and_then(|()| to.flush());
                // Who stops reading has read enough.
                if let Some(error) = written.err().filter(|error| error.kind() != ErrorKind::BrokenPipe) {
                    return failed(&format!("the comparison could not be written to stdout: {error}"));
                }
            }
            ExitCode::from(if regressed { THRESHOLD_MISSED } else { 0 })
        }
        Ok(Reported::Rendered(to)) => {
            tell(&format!("{}\n", to.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            tell(&format!("error: {error}\n"));
            ExitCode::from(if error.is_usage() { BAD_USAGE } else { RUN_FAILED })
        }
    }
}

/// Asks a running tickgen whether it is well.
fn health(url: Option<Probe>, config: Option<PathBuf>, flags: Vec<(Key, Raw)>) -> ExitCode {
    let url = match url.map_or_else(|| own_livez(config, flags), Ok) {
        Ok(url) => url,
        Err(mistakes) => return failed(&mistakes),
    };
    match url.get(HEALTH_TIMEOUT) {
        Ok(200..300) => ExitCode::SUCCESS,
        Ok(status) => failed(&format!("{url} answers with status {status}")),
        Err(error) => failed(&format!("{url}: {error}")),
    }
}

/// Where the tickgen with these settings and those of this environment answers.
fn own_livez(config: Option<PathBuf>, flags: Vec<(Key, Raw)>) -> Result<Probe, String> {
    let mut mistakes = Vec::new();
    let file = read_config(config, &mut mistakes);
    let file = file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()));
    // Other settings and their mistakes are the run's concern.
    let (settings, _) = Settings::layer(file, variables(&mut mistakes), flags);
    let addr = Plan::admin_addr(&settings).unwrap_or_else(|more| {
        mistakes.extend(more);
        None
    });
    match (addr, mistakes.first()) {
        (_, Some(mistake)) => Err(mistake.to_string()),
        (Some(addr), None) => Ok(Probe::livez(addr)),
        (None, None) => {
            Err("no address to ask: give a URL or --admin-addr, or set TICKGEN_ADMIN_ADDR".into())
        }
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

fn report(output: &Output, summary: &Done) -> ExitCode {
    let written = output.summary.as_ref().map_or(Ok(()), |to| write_summary(to, summary));
    let reported = match (&output.report, summary) {
        (Some(path), Done::Run(summary)) => std::fs::write(path, page(summary)),
        _ => Ok(()),
    };
    if output.quiet {
        summary.wrongs().iter().for_each(|wrong| tell(&format!("{wrong}\n")));
    } else {
        tell(&summary.text());
    }
    if let Err(error) = written {
        return failed(&format!("the summary could not be written: {error}"));
    }
    if let Err(error) = reported {
        return failed(&format!("the report could not be written: {error}"));
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
