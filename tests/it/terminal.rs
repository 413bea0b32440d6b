//! The live view in a real terminal: tmux runs the binary, types keys and reads the screen.
#![cfg(feature = "embedded")]

use crate::harness::{assert_picture, peers, run, tmux};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tickgen::config::Settings;
use tickgen::plan::{Plan, Ui};
use tickgen::run::Stops;

/// How often a screen is looked at, against hanging alone: how fast it changes decides nothing.
const LOOKS: usize = 600;

/// A terminal with a shell in it, and a folder for what it leaves.
struct Pane {
    tmux: Command,
    folder: PathBuf,
}

impl Pane {
    /// `None` if there is no tmux.
    fn open(name: &str) -> Option<Self> {
        let mut tmux = tmux()?;
        let name = format!("tickgen-{name}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        tmux.args(["-f", "/dev/null", "-L", &name]);
        let pane = Self { tmux, folder };
        pane.tell(&["new-session", "-d", "-x", "120", "-y", "34", "env PS1='$ ' sh"]);
        pane.type_line(&format!("cd {}; stty -g >before; clear", pane.folder.display()));
        pane.wait_until("a clear screen", |screen| screen.trim() == "$");
        Some(pane)
    }

    fn tell(&self, args: &[&str]) -> String {
        let mut command = Command::new(self.tmux.get_program());
        command.args(self.tmux.get_args()).args(args);
        for (name, value) in self.tmux.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.output().expect("tmux runs");
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &str) {
        self.tell(&["send-keys", "-l", "--", keys]);
    }

    fn type_line(&self, line: &str) {
        self.keys(line);
        self.tell(&["send-keys", "Enter"]);
    }

    /// Runs the binary with these flags; its stdout, summary and exit code go to files.
    fn start(&self, before: &str, flags: &str) {
        let binary = env!("CARGO_BIN_EXE_tickgen");
        self.type_line(&format!("{before} {binary} {flags} --summary run.json >out; echo exit code $?"));
    }

    fn screen(&self) -> String {
        self.tell(&["capture-pane", "-p"])
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        for _ in 0..LOOKS {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{what} does not come:\n{}", self.screen());
    }

    fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    /// Whether the screen is not the shell's own.
    fn is_taken(&self) -> bool {
        self.tell(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    }

    /// Waits for the exit code, and finds the terminal as it was before.
    fn assert_restored(&self, exit_code: i32) -> Value {
        self.wait_for(&format!("exit code {exit_code}"));
        self.assert_as_before();
        assert_eq!(std::fs::read_to_string(self.folder.join("out")).unwrap(), "", "stdout");
        serde_json::from_slice(&std::fs::read(self.folder.join("run.json")).unwrap()).unwrap()
    }

    fn assert_as_before(&self) {
        assert!(!self.is_taken(), "{}", self.screen());
        assert_eq!(
            self.tell(&["display-message", "-p", "#{cursor_flag}"]).trim(),
            "1",
            "the cursor is shown"
        );
        self.type_line("stty -g >after; echo compared: $(cmp before after && echo same)");
        self.wait_for("compared: same");
    }

    /// The id of the process that the shell runs.
    fn child(&self) -> String {
        let shell = self.tell(&["display-message", "-p", "#{pane_pid}"]);
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        std::fs::read_to_string(children).unwrap().split_whitespace().next().expect("a child").to_owned()
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        self.tell(&["kill-server"]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_run_is_watched_and_steered_by_keys() {
    let Some(pane) = Pane::open("steered") else { return };
    pane.start("", "--rps 300 --shards 2");
    let screen = pane.wait_for("of 300/s due");
    for part in ["tickgen  stream tickgen  run ", "running", "Times, ms", "Shards  2", "INFO", "? help"] {
        assert!(screen.contains(part), "{part}\n{screen}");
    }
    assert!(pane.is_taken());
    pane.keys("+");
    pane.wait_for("of 330/s due");
    pane.keys("-");
    pane.wait_for("of 300/s due");
    pane.keys("-");
    pane.wait_for("of 273/s due");
    pane.keys("p");
    pane.wait_for("PAUSED");
    pane.keys("p");
    pane.wait_for("running");
    pane.keys("?");
    pane.wait_for("Help ─");
    pane.tell(&["send-keys", "Escape"]);
    pane.wait_for("Times, ms");
    // It follows the size of the terminal.
    pane.tell(&["resize-window", "-x", "40", "-y", "12"]);
    pane.wait_for("+ - rate p pause");
    pane.tell(&["resize-window", "-x", "150", "-y", "50"]);
    pane.wait_for("+ - rate   p pause");
    pane.keys("d");
    let summary = pane.assert_restored(0);
    assert_eq!(summary["stopped_by"], "told");
    let steered: Vec<_> = summary["steered"].as_array().unwrap().iter().map(|one| &one["action"]).collect();
    assert_eq!(steered, ["rate", "rate", "rate", "pause", "resume"]);
    // What was logged meanwhile, and the summary, are on the shell's screen.
    let screen = pane.screen();
    for part in ["the rate is set rps=330", "the load is paused", "scheduled ", "threshold   held"] {
        assert!(screen.contains(part), "{part}\n{screen}");
    }
}

#[test]
fn q_and_ctrl_c_end_a_run_like_signals() {
    let Some(pane) = Pane::open("quit") else { return };
    pane.start("", "--rps 100 --shards 1");
    pane.wait_for("of 100/s due");
    pane.tell(&["send-keys", "C-c"]);
    assert_eq!(pane.assert_restored(0)["stopped_by"], "signal");
    pane.type_line("clear");
    // One shard takes less than this, so that a drain would take long.
    let slow = "--rps 4000 --shards 1 --record-ttl 1h --drain-timeout 1h --max-backlog 1000000";
    pane.start("", slow);
    pane.wait_for("of 4,000/s due");
    pane.keys("q");
    pane.wait_for("draining");
    pane.wait_for("q end at once");
    // Not the same press of a key that is held.
    std::thread::sleep(Duration::from_millis(600));
    pane.keys("q");
    let summary = pane.assert_restored(99);
    assert!(summary["failed"].as_u64() > Some(0) && summary["balanced"] == true, "{summary:#}");
}

#[test]
fn signals_give_the_terminal_back() {
    let Some(pane) = Pane::open("signals") else { return };
    // One shard takes less than this, so that a drain would take long.
    let slow = "--rps 4000 --shards 1 --record-ttl 1h --drain-timeout 1h --max-backlog 1000000";
    for (signals, exit_code, flags) in
        [(&["TERM"][..], 0, "--rps 100 --shards 1"), (&["QUIT"], 99, slow), (&["TERM", "INT"], 99, slow)]
    {
        pane.start("", flags);
        pane.wait_for("/s due");
        let child = pane.child();
        for signal in signals {
            assert!(Command::new("kill").args([&format!("-{signal}"), &child]).status().unwrap().success());
            if signals.len() > 1 && *signal == "TERM" {
                pane.wait_for("draining");
            }
        }
        assert_eq!(pane.assert_restored(exit_code)["stopped_by"], "signal");
        pane.type_line("clear");
        pane.wait_until("a clear screen", |screen| screen.trim() == "$");
    }
}

#[test]
fn a_run_whose_terminal_is_closed_drains() {
    // With a config file SIGHUP would have it read again; the view, and a line a second.
    for (name, ui, on) in [("closed", "live", "of 100/s due"), ("closed-plain", "plain", "    1s  ")] {
        let Some(pane) = Pane::open(name) else { return };
        std::fs::write(pane.folder.join("run.toml"), "rps = 100\nshards = 1\n").unwrap();
        pane.start("", &format!("--config run.toml --ui {ui}"));
        pane.wait_for(on);
        let process = PathBuf::from(format!("/proc/{}", pane.child()));
        // The server ends with its last pane.
        pane.tell(&["new-window", "-d", "sleep 600"]);
        pane.tell(&["kill-pane", "-t", ":0"]);
        for _ in 0..LOOKS {
            if !process.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(!process.exists(), "the run goes on with nobody there ({name})");
        let summary = std::fs::read(pane.folder.join("run.json")).unwrap();
        let summary: Value = serde_json::from_slice(&summary).expect("a summary");
        assert_eq!((&summary["stopped_by"], &summary["lost"]), (&"signal".into(), &0.into()), "{name}");
    }
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let Some(pane) = Pane::open("panic") else { return };
    let tests = std::env::current_exe().unwrap();
    let inner = "terminal::runs_in_a_pane_until_a_thread_panics";
    pane.type_line(&format!("{} --ignored --exact --nocapture {inner}; echo exit code $?", tests.display()));
    pane.wait_for("/s due");
    assert!(pane.is_taken());
    std::fs::write(pane.folder.join("panic"), "").unwrap();
    pane.wait_for("this is the panic");
    // The run goes on, but the terminal is the shell's again.
    assert!(!pane.is_taken(), "{}", pane.screen());
    std::fs::write(pane.folder.join("stop"), "").unwrap();
    pane.wait_for("exit code 0");
    pane.assert_as_before();
}

/// Stops a run once, when this file is there: asked again it waits for ever, or it would cut the drain short.
struct FileStops(Option<&'static str>);

impl Stops for FileStops {
    async fn next(&mut self) {
        let Some(file) = self.0 else { return std::future::pending().await };
        while !Path::new(file).exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.0 = None;
    }
}

/// A run with a live view beside a thread that panics: what no flag of the binary brings about.
#[test]
#[ignore = "run in tmux by a_panic_gives_the_terminal_back"]
fn runs_in_a_pane_until_a_thread_panics() {
    let file = Some((Path::new("test.toml"), "rps = 100\nshards = 1\n"));
    let (settings, mistakes) = Settings::layer(file, Vec::new(), Vec::new());
    assert!(mistakes.is_empty());
    let mut plan = Plan::new(&settings, 1).unwrap();
    plan.output.ui = Ui::Live;
    let panics = std::thread::spawn(|| {
        while !Path::new("panic").exists() {
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("this is the panic");
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let summary = runtime.block_on(tickgen::run::run(&plan, FileStops(Some("stop")))).unwrap();
    assert!(panics.join().is_err() && !summary.failed());
}

#[test]
fn where_a_view_cannot_be_there_are_lines() {
    let Some(pane) = Pane::open("plain") else { return };
    for (before, flags) in [("", "--ui plain"), ("TERM=dumb", ""), ("TICKGEN_UI=plain", "")] {
        pane.start(before, &format!("--rps 100 --shards 1 --duration 2s {flags}"));
        pane.wait_for("    1s of 2s");
        assert!(!pane.is_taken(), "{before} {flags}");
        pane.assert_restored(0);
        pane.type_line("clear");
        pane.wait_until("a clear screen", |screen| screen.trim() == "$");
    }
    // A job in the background that touched the terminal would be stopped.
    let binary = env!("CARGO_BIN_EXE_tickgen");
    pane.type_line(&format!("{binary} --rps 100 --duration 2s & wait $!; echo exit code $?"));
    pane.wait_for("    1s of 2s");
    pane.wait_for("exit code 0");
    pane.type_line("clear");
    pane.wait_until("a clear screen", |screen| screen.trim() == "$");
    pane.start("", "--rps 100 --shards 1 --duration 1s --quiet");
    let screen = pane.wait_for("exit code 0");
    assert!(!screen.contains("acked"), "{screen}");
    pane.type_line("clear");
    pane.start("TERM=dumb", "--rps 100 --ui live");
    let screen = pane.wait_for("exit code 2");
    assert!(screen.contains("error: --ui live: TERM=dumb has no screen"), "{screen}");
}

#[test]
fn a_view_that_is_asked_for_and_cannot_be_is_refused() {
    let (code, _, stderr) = run(&["--ui", "live"]);
    assert!(code == 2 && stderr.contains("error: --ui live: stderr is not a terminal"), "{stderr}");
    let (code, _, stderr) = run(&["--ui", "pretty"]);
    assert!(code == 2 && stderr.contains("error: --ui pretty: expected auto, plain or live"), "{stderr}");
    let flags = ["search", "--slo", "lost == 0", "--ui", "live"];
    let (code, _, stderr) = run(&flags);
    assert!(code == 2 && stderr.contains("error: --ui live: a search is shown line by line"), "{stderr}");
}

#[test]
fn colours_are_left_out_on_request() {
    let Some(pane) = Pane::open("colours") else { return };
    let throttled = "--rps 2500 --shards 2 --shard-limit none";
    for (before, colours) in [("", true), ("NO_COLOR=1", false)] {
        pane.start(before, throttled);
        pane.wait_for("/s throttled");
        let escapes = pane.tell(&["capture-pane", "-p", "-e"]);
        assert_eq!(escapes.contains("\x1b[33m") || escapes.contains("\x1b[38;5;3m"), colours, "{escapes:?}");
        pane.keys("d");
        pane.wait_for("exit code");
        pane.type_line("clear");
        pane.wait_until("a clear screen", |screen| screen.trim() == "$");
    }
}

/// The processor time that the view's thread has had, in nanoseconds.
fn view_cpu_nanos(process: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let view = tasks.map(|task| task.unwrap().path()).find(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "tickgen-view")
    });
    let times = std::fs::read_to_string(view.expect("the view's thread").join("schedstat")).unwrap();
    times.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_view_costs_less_than_a_hundredth_of_a_core() {
    let Some(pane) = Pane::open("cost") else { return };
    pane.start("", "--rps 2000 --shards 8");
    // Ten seconds by the run's own count, whatever the machine made of them.
    pane.wait_for("running  0:02");
    let child = pane.child();
    let before = view_cpu_nanos(&child);
    pane.wait_for("running  0:12");
    let nanos = view_cpu_nanos(&child) - before;
    pane.keys("d");
    pane.assert_restored(0);
    let seen = format!("the view took {:.1} ms of processor time in 10 s", nanos as f64 / 1e6);
    println!("{seen}");
    assert!(nanos < 100_000_000, "{seen}");
}

/// The words that the view always has: neither numbers nor the log.
fn words(screen: &str) -> BTreeSet<String> {
    let mut lines: Vec<&str> = screen.trim_end().lines().collect();
    let keys = lines.pop();
    let fixed = lines.into_iter().take_while(|line| !line.starts_with(" Log ")).chain(keys);
    let words = fixed.flat_map(|line| line.split(|sign: char| !sign.is_alphanumeric()));
    // Units, such as KiB, are part of a number.
    let words =
        words.filter(|word| word.len() > 1 && word.bytes().skip(1).all(|byte| byte.is_ascii_lowercase()));
    words.map(str::to_owned).collect()
}

/// `UPDATE_IMAGES=1 cargo test --release --test it picture` draws the picture anew, from a run of a minute; a run of
/// three seconds has the same words.
#[test]
fn the_picture_of_the_readme_is_one_of_the_view() {
    let (Some(pane), Some(peers)) = (Pane::open("picture"), peers(&["venv/bin/python"])) else { return };
    pane.tell(&["resize-window", "-x", "120", "-y", "26"]);
    // Uneven keys, and a limit above what the hottest shards take.
    pane.start("", "--rps 4400 --duration 2m --shards 6 --keys zipf:0.8 --shard-limit 115% --seed 8");
    if std::env::var_os("UPDATE_IMAGES").is_some() {
        pane.wait_for("running  0:24");
        pane.keys("+");
        pane.wait_for("running  0:36");
        pane.keys("+");
        pane.wait_for("running  0:54");
    }
    pane.wait_until("a run whose end is known", |screen| {
        screen.contains(" ago ") && screen.contains(" left")
    });
    let (text, mut screen) = (pane.screen(), pane.tell(&["capture-pane", "-p", "-e"]));
    screen.truncate(screen.trim_end().len());
    std::fs::write(pane.folder.join("screen"), screen).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/terminal_png.py");
    let mut python = Command::new(peers.join("venv/bin/python"));
    let drawn = pane.folder.join("terminal.png");
    python.arg(script).arg(&drawn).args(["120", "26"]);
    let status = python.stdin(std::fs::File::open(pane.folder.join("screen")).unwrap()).status();
    assert!(status.unwrap().success());
    pane.keys("d");
    pane.wait_for("exit code");
    assert_picture("terminal", &drawn, &text, words);
}
