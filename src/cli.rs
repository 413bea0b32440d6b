//! The command line: flags made from the table of settings, nothing more.

use crate::config::{Raw, Source};
use crate::settings::{Key, SETTINGS, Setting};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// What the command line says.
#[derive(Debug)]
pub struct Cli {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// The settings given as flags.
    pub flags: Vec<(Key, Raw)>,
}

const ABOUT: &str = "Offers a Kinesis stream a load, exactly as scheduled, and accounts for every record.";
const AFTER: &str = "Each flag can also be set by its TICKGEN_* variable (--max-attempts: \
TICKGEN_MAX_ATTEMPTS) and by its key in a config file; flags win over variables over the file. \
Sizes are bytes, or with KiB, MiB or GiB; times need a unit: ms, s, m or h.

Exit codes: 0 done, thresholds met; 1 the run failed; 2 bad usage or configuration, nothing sent; \
98 acked records lost, with --verify; 99 a threshold missed.";

/// The command.
#[must_use]
pub fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Read settings from this TOML file [env: TICKGEN_CONFIG]");
    Command::new("tickgen")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(AFTER)
        .arg(config)
        .args(SETTINGS.iter().map(|(_, setting)| argument(setting)))
}

fn argument(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        "" | "false" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let arg = Arg::new(setting.name)
        .long(setting.name)
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
    Ok(Cli { config: matches.get_one("config").cloned(), flags: flags(&matches) })
}

fn flags(matches: &ArgMatches) -> Vec<(Key, Raw)> {
    let given = |(key, setting): &(Key, Setting)| {
        let texts: Vec<String> = matches.get_many::<String>(setting.name)?.cloned().collect();
        Some((*key, Raw { texts, source: Source::Flag }))
    };
    SETTINGS.iter().filter_map(given).collect()
}
