//! The metrics, rules and dashboard against Prometheus itself, and the dashboard against the types that
//! Grafana publishes. `.ci/peers` installs both.
#![cfg(feature = "embedded")]

use crate::harness::{self, finished, free_port, peers, repository_file, signal};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROMETHEUS: &str = "prometheus/usr/bin/prometheus";
const PROMTOOL: &str = "prometheus/usr/bin/promtool";

/// How often an answer is waited for, against hanging alone: how fast Prometheus is decides nothing.
const ATTEMPTS: usize = 600;

/// Ends a process when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

fn dashboard() -> Value {
    serde_json::from_str(&repository_file("dashboards/tickgen.json")).expect("JSON")
}

/// Every panel of the dashboard that is no row, those of collapsed rows too.
fn panels() -> Vec<Value> {
    let all = dashboard()["panels"].as_array().expect("panels").clone();
    let inner = |row: &Value| row["panels"].as_array().cloned().unwrap_or_default();
    let all = all.into_iter().flat_map(|panel| [inner(&panel), vec![panel]].concat());
    all.filter(|panel| panel["type"] != "row").collect()
}

fn assert_succeeds(output: &Output) {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{}", texts.concat());
}

/// A folder of its own for a test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The body of an answer with status 200. HTTP/1.0, so that it comes in one piece.
fn get(port: u16, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(socket, "GET {path} HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n").ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).filter(|status| *status == "200").map(|_| body.to_owned())
}

/// What `ask` gives, as soon as it gives something.
fn wait_for<T>(what: &str, ask: impl Fn() -> Option<T>) -> T {
    for _ in 0..ATTEMPTS {
        if let Some(found) = ask() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("waited in vain for {what}")
}

/// A tickgen with one load, as a newcomer has it, of which a shard takes less than comes to it, on a machine that was
/// calibrated.
fn tickgen(port: u16, folder: &Path) -> Running {
    let command = |flags: &[&str]| {
        let mut command = harness::tickgen(flags);
        command.env("XDG_CACHE_HOME", folder).args(["--keys", "zipf:0.8", "--quiet"]);
        command
    };
    assert_succeeds(&command(&["calibrate", "--duration", "300ms"]).output().expect("it ends"));
    let shape = "sine:mean=3000,amplitude=1000,period=80s";
    let flags = ["--shape", shape, "--shards", "4", "--shard-limit", "112%", "--seed", "8"];
    let tickgen = command(&flags).args(["--admin-addr", &port.to_string()]).spawn();
    let tickgen = Running(tickgen.expect("the binary starts"));
    wait_for("tickgen", || get(port, "/readyz"));
    tickgen
}

/// A Prometheus that scrapes a port every second and evaluates the rules as often; with flags besides.
fn prometheus(binary: &Path, folder: &Path, scraped: u16, port: u16, flags: &[&str]) -> Running {
    let config = folder.join("prometheus.yml");
    let rules = dashboards().join("rules.yml");
    let text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n\
         - {{job_name: tickgen, static_configs: [{{targets: ['127.0.0.1:{scraped}']}}]}}\n",
        rules.display()
    );
    std::fs::write(&config, text).expect("a file");
    let log = std::fs::File::create(folder.join("prometheus.log")).expect("a log file");
    let mut command = Command::new(binary);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let prometheus = Running(command.spawn().expect("Prometheus starts"));
    wait_for("Prometheus", || get(port, "/-/ready"));
    prometheus
}

/// The result of an expression, or why there is none.
fn evaluate(port: u16, expression: &str) -> Result<Vec<Value>, String> {
    let mut path = "/api/v1/query?query=".to_owned();
    for byte in expression.bytes() {
        // Writing to a String cannot fail.
        let _ = write!(path, "%{byte:02X}");
    }
    let body = get(port, &path).ok_or("it is refused")?;
    let answer: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
    let samples = answer["data"]["result"].as_array().ok_or("it has no result")?;
    let is_number = |sample: &&Value| sample["value"][1].as_str().is_some_and(|value| value != "NaN");
    let samples: Vec<Value> = samples.iter().filter(is_number).cloned().collect();
    if samples.is_empty() { Err("it is empty".into()) } else { Ok(samples) }
}

/// What is chosen in the dashboard's variables; the others are at All.
type Chosen<'a> = &'a [(&'a str, &'a str)];

/// An expression of the dashboard as Grafana sends it.
fn substituted(expression: &str, chosen: Chosen) -> String {
    let mut text = expression.replace("$__rate_interval", "10s").replace("$__range", "2m");
    for variable in ["job", "instance", "stream", "run"] {
        let value = chosen.iter().find(|(name, _)| *name == variable).map_or(".*", |(_, value)| value);
        text = text.replace(&format!("\"${variable}\""), &format!("\"{value}\""));
    }
    assert!(!text.contains('$'), "a variable that no one substitutes: {text}");
    text
}

/// A condition as an expression that has samples while it does not hold, too: 0 for those.
fn without_filters(alert: &str) -> String {
    let words = alert.split(' ').map(|word| match word {
        "<" | ">" | "<=" | ">=" | "==" | "!=" => format!("{word} bool"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Every expression of the dashboard's panels, by its place.
fn expressions_of_panels(chosen: Chosen) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in panels() {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().expect("targets") {
            found.push((
                format!("panel {title}"),
                substituted(target["expr"].as_str().expect("expr"), chosen),
            ));
        }
    }
    found
}

/// Every expression of the dashboard's variables, by its place.
fn expressions_of_variables() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for variable in dashboard()["templating"]["list"].as_array().expect("variables") {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let inner =
            query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect("a query");
        let (metric, label) = inner.rsplit_once(", ").expect("a metric and a label");
        let expression = substituted(&format!("count by ({label}) ({metric})"), &[]);
        found.push((format!("variable {}", variable["name"]), expression));
    }
    found
}

/// Every expression of rules.yml, by its name, as the running Prometheus has read it.
fn expressions_of_rules(port: u16) -> Vec<(String, String)> {
    let body = get(port, "/api/v1/rules").expect("the rules");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    let groups = answer["data"]["groups"].as_array().expect("groups").clone();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    let of_rule = |rule: &Value| {
        let (name, query) =
            (rule["name"].as_str().expect("a name"), rule["query"].as_str().expect("a query"));
        (format!("rule {name}"), without_filters(query))
    };
    rules.map(of_rule).collect()
}

#[test]
fn every_expression_has_an_answer() {
    let Some(root) = peers(&[PROMETHEUS, PROMTOOL]) else { return };
    let folder = scratch("prometheus");
    let (port, scraped) = (free_port(), free_port());
    let began = Instant::now();
    let mut tickgen = tickgen(scraped, &folder);
    let _prometheus = prometheus(&root.join(PROMETHEUS), &folder, scraped, port, &[]);

    let exposition = get(scraped, "/metrics").expect("metrics");
    let mut check = Command::new(root.join(PROMTOOL));
    let mut check =
        check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    assert_succeeds(&check.wait_with_output().unwrap());

    let rules = wait_for("the rules", || Some(expressions_of_rules(port)).filter(|rules| !rules.is_empty()));
    assert_eq!(rules.len(), repository_file("dashboards/rules.yml").matches("expr:").count());
    let all = expressions_of_panels(&[]).into_iter().chain(expressions_of_variables()).chain(rules);
    for (place, expression) in all {
        let mut last = String::new();
        // What is a rate of rates needs some scrapes.
        let answered = (0..ATTEMPTS / 5).any(|_| match evaluate(port, &expression) {
            Ok(_) => true,
            Err(why) => {
                last = why;
                std::thread::sleep(Duration::from_millis(500));
                false
            }
        });
        assert!(answered, "{place}: {expression}: {last}");
    }
    // What is of other runs, streams or instances is not shown.
    for chosen in ["run", "stream", "instance", "job"] {
        for (place, expression) in expressions_of_panels(&[(chosen, "none")]) {
            assert!(evaluate(port, &expression).is_err(), "{place} goes by no {chosen}: {expression}");
        }
    }
    let up = evaluate(port, "up{job=\"tickgen\"}").unwrap();
    assert_eq!(up[0]["value"][1], "1");
    assert_is_drawn(port, began, &folder);
    signal(&tickgen.0, "TERM");
    assert_eq!(tickgen.0.wait().unwrap().code(), Some(0));
    std::fs::remove_dir_all(folder).unwrap();
}

/// A panel in which something is not drawn.
fn empty_panel(drawn: &Value) -> Option<Value> {
    let drawn: BTreeMap<u64, &Value> =
        drawn["panels"].as_array().unwrap().iter().map(|one| (one["id"].as_u64().unwrap(), one)).collect();
    let is_empty = |one: &Value| {
        one["series"] == 0 || one["targets"].as_array().unwrap().iter().any(|series| *series == 0)
    };
    panels().iter().map(|panel| drawn[&panel["id"].as_u64().unwrap()]).find(|one| is_empty(one)).cloned()
}

/// Every panel of the dashboard, drawn as its JSON says with what Prometheus has, shows something. With
/// `UPDATE_IMAGES` these are the pictures of the documents, of some minutes.
fn assert_is_drawn(port: u16, began: Instant, folder: &Path) {
    let needed =
        ["@sparticuz/chromium", "puppeteer-core", "uplot"].map(|name| format!("node/node_modules/{name}"));
    let Some(peers) = peers(&needed.each_ref().map(String::as_str)) else { return };
    let update = std::env::var_os("UPDATE_IMAGES").is_some();
    if update {
        std::thread::sleep(Duration::from_mins(4).saturating_sub(began.elapsed()));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = root.join("tests/peers");
    // An import finds its modules beside the script alone.
    let beside = peers.join("node/draw_dashboard.mjs");
    std::fs::copy(scripts.join("draw_dashboard.mjs"), &beside).expect("a copy");
    std::fs::create_dir_all(peers.join("chromium")).expect("a folder");
    let draw = || {
        let mut node = Command::new("node");
        node.arg(&beside).arg(dashboards().join("tickgen.json")).arg(format!("http://127.0.0.1:{port}"));
        node.args([&began.elapsed().as_secs().to_string(), "1"]);
        node.arg(peers.join("node/node_modules/uplot/dist")).arg(scripts.join("panels.js"));
        node.arg(folder).arg("Shards").env("TMPDIR", peers.join("chromium"));
        let (code, drawn, stderr) = finished(&node.output().expect("node runs"));
        assert_eq!((code, &drawn["errors"]), (0, &serde_json::json!([])), "{stderr}");
        drawn
    };
    // On a busy machine a rate has its second scrape late.
    let drawn = (0..10).map(|_| draw()).find(|drawn| empty_panel(drawn).is_none()).unwrap_or_else(draw);
    assert_eq!(empty_panel(&drawn), None, "nothing is drawn");
    for (made, picture) in [("top.png", "dashboard.png"), ("all.png", "dashboard-all.png")] {
        let made = std::fs::read(folder.join(made)).expect("a picture");
        assert!(made.starts_with(b"\x89PNG"));
        if update {
            std::fs::write(root.join("docs/images").join(picture), made).expect("a picture");
        }
    }
}

/// The only value of an expression.
#[cfg(feature = "native-histograms")]
fn value(port: u16, expression: &str) -> Option<f64> {
    let samples = evaluate(port, expression).ok()?;
    assert_eq!(samples.len(), 1, "{expression}: {samples:?}");
    samples[0]["value"][1].as_str()?.parse().ok()
}

/// Percentiles of the native histogram are the summary's within a bucket (2.2 %) and a step of the HDR histogram
/// (0.1 %); a Prometheus that asks for text gets the classic one from the same program.
#[cfg(feature = "native-histograms")]
#[test]
fn native_histograms_have_the_summarys_percentiles() {
    let Some(root) = peers(&[PROMETHEUS]) else { return };
    let folders = [scratch("prometheus-native"), scratch("prometheus-classic")];
    let [native, classic, scraped] = [free_port(), free_port(), free_port()];
    // A load that ends before the run does, so that what is scraped last is what the summary has.
    let shape = "stages:800,800/3s,0/0s,0/10m";
    let flags = ["--shape", shape, "--shards", "2", "--summary", "-", "--quiet"];
    let tickgen = harness::start(&[&flags[..], &["--admin-addr", &scraped.to_string()]].concat());
    let mut tickgen = Running(tickgen);
    wait_for("tickgen", || get(scraped, "/readyz"));
    let binary = root.join(PROMETHEUS);
    let flags: &[&str] = &["--enable-feature=native-histograms"];
    let _native = prometheus(&binary, &folders[0], scraped, native, flags);
    let _classic = prometheus(&binary, &folders[1], scraped, classic, &[]);
    let name = "tickgen_response_time_seconds";
    wait_for("the end of the load", || {
        let left = value(
            native,
            "sum(tickgen_scheduled_records_total - on() tickgen_records_total{outcome=\"acked\"})",
        )?;
        let rate = value(native, "tickgen_target_records_per_second")?;
        (rate == 0.0 && left == 0.0).then_some(())
    });
    let count = value(native, &format!("histogram_count({name})")).expect("a native histogram");
    wait_for("the same in the classic one", || {
        value(classic, &format!("{name}_bucket{{le=\"+Inf\"}}")).filter(|all| (all - count).abs() < 0.5)
    });
    assert!(value(classic, &format!("{name}_bucket{{le=\"0.005\"}}")).is_some());
    assert!(evaluate(classic, &format!("histogram_count({name})")).is_err(), "it asks for text");
    let percentiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];
    let measured = percentiles.map(|(_, quantile)| {
        value(native, &format!("histogram_quantile({quantile}, {name})")).expect("a quantile")
    });
    let sum = value(native, &format!("histogram_sum({name})")).expect("a sum");

    signal(&tickgen.0, "TERM");
    let mut summary = String::new();
    tickgen.0.stdout.take().expect("stdout").read_to_string(&mut summary).expect("a summary");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let times = &summary["response_time_ms"];
    assert_eq!((summary["acked"].as_f64(), times["count"].as_f64()), (Some(count), Some(count)));
    assert!(count > 1000.0, "{count}");
    let mean = times["mean"].as_f64().expect("a mean") / 1e3;
    assert!((sum / count / mean - 1.0).abs() < 1e-3, "{sum} of {count}: {mean}");
    for ((percentile, _), measured) in percentiles.into_iter().zip(measured) {
        let told = times[percentile].as_f64().expect("a percentile") / 1e3;
        assert!((measured / told - 1.0).abs() < 0.024, "{percentile}: {measured} s, summary {told} s");
    }
    for folder in folders {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn promtool_accepts_the_rules() {
    let Some(root) = peers(&[PROMTOOL]) else { return };
    for arguments in [
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
        ["check", "config", "prometheus.yml"],
    ] {
        let output = Command::new(root.join(PROMTOOL)).args(arguments).current_dir(dashboards()).output();
        assert_succeeds(&output.unwrap());
    }
}

/// Two runs one after the other on one port, the first of which loses records, and one on another stream: a minute
/// each, with a sample every 5 s.
fn series_of_three_runs() -> Vec<Value> {
    let mut series = Vec::new();
    let mut add = |instance: &str, metric: &str, labels: &str, samples: &dyn Fn(u32) -> Option<u32>| {
        let values = (0..24).map(|n| samples(n).map_or("stale".to_owned(), |value| value.to_string()));
        let values = values.collect::<Vec<_>>().join(" ");
        let name = format!("tickgen_{metric}{{job=\"tickgen\",instance=\"{instance}\"{labels}}}");
        series.push(serde_json::json!({"series": name, "values": values}));
    };
    let info = |run: &str, stream: &str| format!(",run=\"{run}\",stream=\"{stream}\",version=\"1\"");
    let first = |n: u32| n < 12;
    add("a", "run_info", &info("lossy", "orders"), &|n| first(n).then_some(1));
    add("a", "run_info", &info("clean", "orders"), &|n| (!first(n)).then_some(1));
    add("b", "run_info", &info("other", "clicks"), &|n| first(n).then_some(1));
    // 1000 and 500 due in a sample, all acked but a tenth of the first run.
    add("a", "scheduled_records_total", "", &|n| Some(1000 * (n % 12)));
    add("a", "records_total", ",outcome=\"acked\"", &|n| Some(if first(n) { 900 } else { 1000 } * (n % 12)));
    add("a", "records_total", ",outcome=\"expired\"", &|n| Some(if first(n) { 100 * n } else { 0 }));
    add("b", "scheduled_records_total", "", &|n| first(n).then_some(500 * n));
    add("b", "records_total", ",outcome=\"acked\"", &|n| first(n).then_some(500 * n));
    let shard = |stream: &str| format!(",stream=\"{stream}\",shard=\"shardId-000000000000\"");
    add("a", "shard_accepted_total", &shard("orders"), &|n| Some(1000 * (n % 12)));
    add("b", "shard_accepted_total", &shard("clicks"), &|n| first(n).then_some(500 * n));
    series
}

#[test]
fn figures_are_of_the_chosen_run_and_stream() {
    let Some(root) = peers(&[PROMTOOL]) else { return };
    let panels = panels();
    let mut tests = Vec::new();
    let mut expect = |title: &str, target: usize, chosen: Chosen, at: &str, samples: &[(&str, f64)]| {
        let panel = panels.iter().find(|panel| panel["title"] == title).expect("a panel of that title");
        let expr = substituted(panel["targets"][target]["expr"].as_str().unwrap(), chosen);
        let samples: Vec<Value> = samples
            .iter()
            .map(|(labels, value)| serde_json::json!({"labels": labels, "value": value}))
            .collect();
        tests.push(serde_json::json!({"expr": expr, "eval_time": at, "exp_samples": samples}));
    };
    // The figures of a run stay what they came to, whatever runs after it on its port.
    for (run, due, acked, lost) in [
        ("lossy", 11_000.0, 9_900.0, Some(1_100.0)),
        ("clean", 11_000.0, 11_000.0, Some(0.0)),
        ("other", 5_500.0, 5_500.0, None),
        (".*", 27_500.0, 26_400.0, Some(1_100.0)),
    ] {
        let chosen: Chosen = &[("run", run)];
        expect("Acked of due", 0, chosen, "115s", &[("{}", acked / due)]);
        let Some(lost) = lost else { continue };
        expect("Lost or dropped", 0, chosen, "115s", &[("{}", lost)]);
        expect("Budget left", 0, chosen, "115s", &[("{}", 1.0 - lost / (0.01 * due))]);
    }
    // A rate is of the chosen run alone: none is told while its window has samples of another.
    expect("Target and achieved", 1, &[("run", "clean")], "65s", &[]);
    expect("Target and achieved", 1, &[("run", "clean")], "100s", &[("{}", 200.0)]);
    expect("Target and achieved", 1, &[("run", "lossy")], "50s", &[("{}", 180.0)]);
    // Shards of the same id are of two streams.
    let orders = ("{stream=\"orders\",shard=\"shardId-000000000000\"}", 200.0);
    let clicks = ("{stream=\"clicks\",shard=\"shardId-000000000000\"}", 100.0);
    expect("Accepted, by shard", 0, &[], "50s", &[orders, clicks]);
    expect("Accepted, by shard", 0, &[("stream", "clicks")], "50s", &[clicks]);
    expect("Accepted and limit", 1, &[], "50s", &[("{}", 200.0)]);

    let series = series_of_three_runs();
    let test = serde_json::json!({"interval": "5s", "input_series": series, "promql_expr_test": tests});
    let file = scratch("figures").join("test.yml");
    // JSON is YAML.
    std::fs::write(&file, serde_json::json!({"evaluation_interval": "5s", "tests": [test]}).to_string())
        .unwrap();
    let output = Command::new(root.join(PROMTOOL)).args(["test", "rules"]).arg(&file).output();
    assert_succeeds(&output.unwrap());
}

#[test]
fn the_dashboard_fits_grafanas_types() {
    let schema = "grafana-dashboard.schema.json";
    let Some(root) = peers(&[schema, "node/node_modules/ajv"]) else { return };
    let check = |file: &Path| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/fits_schema.cjs");
        let mut node = Command::new("node");
        node.env("NODE_PATH", root.join("node/node_modules"));
        node.arg(script).arg(root.join(schema)).arg(file).output().unwrap()
    };
    assert_succeeds(&check(&dashboards().join("tickgen.json")));
    // And the check finds what is wrong.
    let mut wrong = dashboard();
    wrong["panels"][1]["gridPos"]["x"] = "left".into();
    wrong["templating"]["list"][0]["kind"] = "datasource".into();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dashboard-{}.json", std::process::id()));
    std::fs::write(&file, wrong.to_string()).unwrap();
    let output = check(&file);
    std::fs::remove_file(&file).unwrap();
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(found.contains("/panels/1") && found.contains("/templating/list/0 "), "{found}");
}

/// What its own code showed when it drew the dashboard: cells that were too many to be drawn, a blur of names, numbers
/// that were rounded, and colours that said "lost" where nothing had run.
#[test]
fn grafana_shows_panels_as_they_are_meant() {
    let mut seen = 0;
    for panel in panels() {
        let (title, defaults) = (&panel["title"], &panel["fieldConfig"]["defaults"]);
        let expressions: Vec<&str> =
            panel["targets"].as_array().unwrap().iter().filter_map(|one| one["expr"].as_str()).collect();
        match panel["type"].as_str().unwrap() {
            // It draws no more than half as many cells as the panel has pixels, and no series that is on no page.
            "status-history" => {
                assert!(panel["maxDataPoints"].as_u64().is_some_and(|cells| cells <= 100), "{title}");
                assert!(panel["options"]["perPage"].as_u64().is_some_and(|names| names <= 10), "{title}");
            }
            "stat" => {
                assert_eq!(defaults["mappings"][0]["options"]["match"], "null+nan", "{title}");
                assert_ne!(defaults["unit"], "short", "{title} is rounded to thousands");
            }
            // `increase` over $__rate_interval is more than fell into one cell.
            "heatmap" => assert!(!expressions[0].contains("increase("), "{title}"),
            "timeseries" => {}
            other => panic!("{title}: {other}"),
        }
        // Of entries, records or requests in a second; seconds, bytes and shares have units of their own.
        let is_rate = |expression: &&str| {
            expression.contains("rate(")
                && !["_seconds", "bytes", " / ", "quantile", "flushes", "misrouted"]
                    .iter()
                    .any(|other| expression.contains(other))
        };
        let rates = expressions.iter().filter(|expression| is_rate(expression)).count();
        let unit = defaults["unit"].as_str().unwrap();
        assert!(rates == 0 || ["recps", "reqps"].contains(&unit), "{title}: {unit} is no unit of a rate");
        seen += rates;
    }
    assert!(seen > 15, "{seen} rates");
}

#[test]
fn every_panel_says_what_good_looks_like() {
    let panels = panels();
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "panels have ids of their own");
    for panel in &panels {
        let description = panel["description"].as_str().unwrap_or_default();
        assert!(description.starts_with("Good: "), "{}: {description}", panel["title"]);
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty());
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    assert_eq!(without_filters("a{b=~\"c\"} < 5 and d == 0"), "a{b=~\"c\"} < bool 5 and d == bool 0");
}
