//! `tickgen report`: what can be done with runs that have ended.

use crate::plan::WriteTo;
use crate::results::MaxRegression;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

/// What is to be done with runs that have ended.
#[derive(Clone, Debug)]
pub enum ReportTask {
    /// Add them up.
    Merge {
        /// Their summaries, each with its log after a plus sign or beside it.
        runs: Vec<String>,
        /// Where the summary of all goes.
        summary: Option<WriteTo>,
        /// Where the report of all goes.
        report: Option<PathBuf>,
        /// Where the histogram log of all goes.
        hdr_log: Option<PathBuf>,
    },
    /// Tell how one differs from another.
    Compare {
        /// The one that is compared with.
        base: String,
        /// The one that is compared.
        new: String,
        /// How much worse it may be.
        limits: Vec<MaxRegression>,
        /// Where the comparison goes as JSON.
        json: Option<WriteTo>,
    },
    /// Make the report of one.
    Render {
        /// Its summary.
        run: String,
        /// Where the report goes; not given: beside the summary.
        report: Option<PathBuf>,
    },
}

const AFTER: &str = "A run is given by its summary (--summary FILE of the run). Its histogram log (--hdr-log FILE) is \
looked for beside it, RUN.hlog for RUN.json, or given after a plus sign: RUN.json+OTHER.hlog.";

const AFTER_MERGE: &str = "Exit codes: as of a run with that summary; 1 a file could not be written; 2 bad usage, or \
a file is not what a run leaves.";

const AFTER_COMPARE: &str = "Exit codes: 0 no limit is exceeded; 1 the comparison could not be written; 2 bad usage, or \
a file is not what a run leaves; 99 a limit is exceeded.";

pub(super) fn command() -> Command {
    let file_or_dash = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
    };
    let file = |name, help| file_or_dash(name, help).value_parser(no_dash);
    let run = |name: &'static str, help: &'static str| Arg::new(name).value_name("RUN.json").help(help);
    let merge = Command::new("merge")
        .about("Adds runs up to one, with percentiles of all their records")
        .after_help(AFTER_MERGE)
        .arg(run("runs", "Summaries of runs with their histogram logs").num_args(1..).required(true))
        .arg(file_or_dash("summary", "Write the summary of all as JSON there; - is stdout"))
        .arg(file("report", "Write the report of all there, as one HTML file"))
        .arg(file("hdr-log", "Write the histogram log of all there"));
    let compare = Command::new("compare")
        .about("Tells how a run differs from another, and what of that is noise")
        .after_help(AFTER_COMPARE)
        .arg(run("base", "The run that is compared with").required(true))
        .arg(run("new", "The run that is compared").required(true))
        .arg(
            Arg::new("max-regression")
                .long("max-regression")
                .value_name("FIGURE LIMIT")
                .value_parser(MaxRegression::parse)
                .action(ArgAction::Append)
                .help("Fail (exit 99) if this is worse by more, such as 'response_time_ms.p99 5%'; may be repeated"),
        )
        .arg(file_or_dash("json", "Write the comparison as JSON there; - is stdout"));
    let render = Command::new("render")
        .about("Makes the report of a run from its summary")
        .arg(run("run", "The summary of the run").required(true))
        .arg(file("report", "Write it there; not given: beside the summary, as RUN.html"));
    Command::new("report")
        .about("Adds up, compares and shows runs that have ended")
        .after_help(AFTER)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommands([merge, compare, render])
}

fn no_dash(text: &str) -> Result<PathBuf, &'static str> {
    if text == "-" { Err("name a file: this does not go to stdout") } else { Ok(text.into()) }
}

/// The task of the matched subcommand.
pub(super) fn task(matches: &ArgMatches) -> Option<ReportTask> {
    let file = |of: &ArgMatches, name: &str| of.get_one::<PathBuf>(name).cloned();
    let or_stdout = |of: &ArgMatches, name: &str| {
        file(of, name).map(|path| if path.as_os_str() == "-" { WriteTo::Stdout } else { WriteTo::File(path) })
    };
    let run = |of: &ArgMatches, name: &str| of.get_one::<String>(name).cloned().unwrap_or_default();
    match matches.subcommand()? {
        ("merge", of) => Some(ReportTask::Merge {
            runs: of.get_many::<String>("runs")?.cloned().collect(),
            summary: or_stdout(of, "summary"),
            report: file(of, "report"),
            hdr_log: file(of, "hdr-log"),
        }),
        ("compare", of) => Some(ReportTask::Compare {
            base: run(of, "base"),
            new: run(of, "new"),
            limits: of.get_many("max-regression").map_or_else(Vec::new, |limits| limits.cloned().collect()),
            json: or_stdout(of, "json"),
        }),
        ("render", of) => Some(ReportTask::Render { run: run(of, "run"), report: file(of, "report") }),
        _ => None,
    }
}
