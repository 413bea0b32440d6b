//! The command line: flags made from the table of settings, nothing more.

mod report;

pub use report::ReportTask;

use crate::admin::Probe;
use crate::config::{Raw, Source};
use crate::plan::{OF_CALIBRATION, SET_BY_SEARCH};
use crate::settings::{Key, SETTINGS, Setting};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// What the command line says.
#[derive(Debug)]
pub struct Cli {
    /// What is to be done.
    pub task: Task,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The settings given as flags.
    pub flags: Vec<(Key, Raw)>,
}

/// What tickgen is to do.
#[derive(Debug)]
pub enum Task {
    /// Offer a load: no subcommand.
    Run,
    /// Find the highest rate that holds an objective: `search`.
    Search,
    /// Prove what arrived of a run: `verify`.
    Verify,
    /// Measure what this machine can send at most: `calibrate`.
    Calibrate,
    /// Tell whether a running tickgen is well, the one there or the one with these settings: `health`.
    Health(Option<Probe>),
    /// Add up, compare or show runs that have ended: `report`.
    Report(ReportTask),
}

const ABOUT: &str = "Offers a Kinesis stream a load, exactly as scheduled, and accounts for every record.";
const AFTER: &str = "Each flag can also be set by its TICKGEN_* variable (--max-attempts: \
TICKGEN_MAX_ATTEMPTS) and by its key in a config file; flags win over variables over the file. \
Sizes are bytes, or with KiB, MiB or GiB; times need a unit: ms, s, m or h.

Exit codes: 0 done, thresholds met; 1 the run failed; 2 bad usage or configuration, nothing sent; \
98 acked records lost, with --verify; 99 a threshold missed.";

const ABOUT_SEARCH: &str = "Finds the highest rate that holds an objective.";
const AFTER_SEARCH: &str = "The flags of the first group are TICKGEN_SEARCH_* variables and search-* keys. \
Every rate is offered like a run, so its flags are those of tickgen --help, but for those that the search \
sets itself and --to FILE.

Exit codes: 0 found; 1 the search failed; 2 bad usage or configuration, nothing sent; 99 the objective is \
not held even at --from.";

const ABOUT_VERIFY: &str = "Proves what arrived of a run, in its stream or in an OpenSearch index.";
const AFTER_VERIFY: &str = "The flags of the first group are TICKGEN_VERIFY_* variables and verify-* keys. \
The run needs records that say which they are: --stamp key, or --stamp body for an index.

Exit codes: 0 proved, thresholds met; 1 it could not be looked; 2 bad usage or configuration; 98 acked \
records lost; 99 a threshold missed.";

const ABOUT_CALIBRATE: &str = "Measures what this machine can send at most, to an endpoint in this process.";
const AFTER_CALIBRATE: &str = "The flags of the first group are TICKGEN_CALIBRATE_* variables and \
calibrate-* keys. The figures are kept in $XDG_CACHE_HOME/tickgen/ceiling.json, or below ~/.cache: the \
summary of a run with the same settings says which share of them it used.

Exit codes: 0 measured; 1 it could not be measured; 2 bad usage or configuration, nothing sent.";

/// The settings of a run that `tickgen verify` has too.
const OF_RUNS_AND_VERIFY: [Key; 14] = [
    Key::Stream,
    Key::EndpointUrl,
    Key::Region,
    Key::Profile,
    Key::MaxConnections,
    Key::ConnectTimeout,
    Key::AttemptTimeout,
    Key::VerifyWait,
    Key::Consumer,
    Key::Summary,
    Key::Threshold,
    Key::Quiet,
    Key::LogLevel,
    Key::LogFormat,
];

/// The command.
#[must_use]
pub fn command() -> Command {
    let search = Command::new("search")
        .about(ABOUT_SEARCH)
        .after_help(AFTER_SEARCH)
        .arg(config_argument())
        .args(only_of("search").map(argument))
        .args(of_runs().filter(|(key, _)| *key != Key::To).map(|(key, setting)| {
            // Still taken, so that they are refused with a reason.
            argument(setting).hide(SET_BY_SEARCH.iter().any(|(set, _)| set == key))
        }));
    let verify = Command::new("verify")
        .about(ABOUT_VERIFY)
        .after_help(AFTER_VERIFY)
        .arg(config_argument())
        .args(only_of("verify").map(argument))
        .args(of_runs().filter(|(key, _)| OF_RUNS_AND_VERIFY.contains(key)).map(|(_, one)| argument(one)));
    let calibrate = Command::new("calibrate")
        .about(ABOUT_CALIBRATE)
        .after_help(AFTER_CALIBRATE)
        .arg(config_argument())
        .args(only_of("calibrate").map(argument))
        .args(of_runs().filter(|(key, _)| OF_CALIBRATION.contains(key)).map(|(_, one)| argument(one)));
    Command::new("tickgen")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(AFTER)
        .arg(config_argument())
        .args(of_runs().map(|(_, setting)| argument(setting)))
        .args(of_no_run().map(|setting| argument(setting).hide(true)))
        .subcommand(search)
        .subcommand(verify)
        .subcommand(calibrate)
        .subcommand(health())
        .subcommand(report::command())
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
}

/// The settings of a run.
fn of_runs() -> impl Iterator<Item = &'static (Key, Setting)> {
    SETTINGS.iter().filter(|(_, setting)| setting.subcommand().is_none())
}

/// The settings of a subcommand alone.
fn only_of(subcommand: &'static str) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().map(|(_, one)| one).filter(move |one| one.subcommand() == Some(subcommand))
}

/// The settings of subcommands whose flags no run has: they are taken from a run's command line, too, so
/// that they are refused with a reason.
fn of_no_run() -> impl Iterator<Item = &'static Setting> {
    let flag_of_runs = |flag| of_runs().any(|(_, setting)| setting.flag() == flag);
    let of_subcommands = SETTINGS.iter().map(|(_, one)| one).filter(|one| one.subcommand().is_some());
    of_subcommands.filter(move |one| !flag_of_runs(one.flag()))
}

fn config_argument() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Read settings from this TOML file [env: TICKGEN_CONFIG]")
}

fn health() -> Command {
    let url = Arg::new("url")
        .value_name("URL")
        .value_parser(Probe::parse)
        .help("Address to ask; not given: /livez of the admin server that these settings are of")
        .conflicts_with_all(["config", Key::AdminAddr.setting().name]);
    Command::new("health")
        .about("Asks a running tickgen whether it is well: exit 0, or 1 with the reason on stderr")
        .arg(url)
        .arg(config_argument())
        .arg(argument(Key::AdminAddr.setting()))
}

fn argument(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        "" | "false" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let arg = Arg::new(setting.name)
        .long(setting.flag())
        .value_name(setting.value)
        .help(format!("{}{default}", setting.help))
        .help_heading(setting.group);
    if setting.is_switch() {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true").hide_possible_values(true)
    } else if setting.list {
        arg.action(ArgAction::Append).allow_hyphen_values(true)
    } else {
        arg.allow_hyphen_values(true)
    }
}

/// Reads the command line.
///
/// # Errors
/// Usage errors, and the texts of `--help` and `--version`, as clap makes them.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    let (task, matches) = match matches.subcommand() {
        Some(("report", of)) => match report::task(of) {
            Some(task) => (Task::Report(task), &matches),
            None => {
                return Err(command().error(ErrorKind::MissingSubcommand, "report needs one of its tasks"));
            }
        },
        Some(("health", health)) => (Task::Health(health.get_one("url").cloned()), health),
        Some(("verify", of_verify)) => (Task::Verify, of_verify),
        Some(("calibrate", of_calibration)) => (Task::Calibrate, of_calibration),
        Some((_, of_search)) => (Task::Search, of_search),
        None => (Task::Run, &matches),
    };
    let given = |setting: &&Setting| matches.contains_id(setting.name);
    if matches!(task, Task::Run)
        && let Some(setting) = of_no_run().find(given)
    {
        let (flag, subcommand) = (setting.flag(), setting.subcommand().unwrap_or_default());
        let problem = format!("--{flag} is for tickgen {subcommand}: tickgen {subcommand} --{flag} ...");
        return Err(command().error(ErrorKind::ArgumentConflict, problem));
    }
    Ok(Cli { task, config: matches.get_one("config").cloned(), flags: flags(matches) })
}

fn flags(matches: &ArgMatches) -> Vec<(Key, Raw)> {
    let given = |(key, setting): &(Key, Setting)| {
        // Each command has flags of its own; one that it does not have is not given.
        let texts = matches.try_get_many::<String>(setting.name).ok()??;
        let texts: Vec<String> = texts.cloned().collect();
        Some((*key, Raw { texts, source: Source::Flag }))
    };
    SETTINGS.iter().filter_map(given).collect()
}
