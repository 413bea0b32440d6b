//! The documents are held to the code.

use crate::harness::repository_file;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tickgen::config::{Settings, Source};
use tickgen::cost::{CapacityMode, PriceList, Tariff};
use tickgen::load::Rate;
use tickgen::observe::{
    About, Calibration, Ceiling, ClockOffset, CountedLoad, CountedSummary, DrillSummary, Environment,
    IndexSummary, Judge, LoadFacts, LostRange, METRICS, MergedRun, RunFacts, Settled, ShardHeat,
    ShardHeatRow, StoppedBy, StreamFacts, Threshold, ThresholdResult, TimeSummary, VERIFY_SCHEMA_VERSION,
    VerifyReport, VerifySummary, WindowSummary, figures,
};
use tickgen::plan::Plan;
use tickgen::producer::{Snapshot, Window};
use tickgen::search::{Answer, Point, SearchFacts, SearchSummary, Verdict};
use tickgen::settings::SETTINGS;
use tickgen::tick::{
    EventTime, Keys, Market, Source as Records, StampPlace, Template, TemplateText, Ticks, TimeZone,
};
use tickgen::verify::{Manifest, ManifestLoad};

/// The shipped config.toml shows every key with its default, and nothing else.
#[test]
fn config_toml_is_exactly_the_defaults() {
    let text = repository_file("config.toml");
    let (settings, errors) = Settings::layer(Some((Path::new("config.toml"), &text)), [], Vec::new());
    assert_eq!(errors, []);
    let (defaults, _) = Settings::layer(None, [], Vec::new());
    for (key, setting) in SETTINGS {
        let (shown, default) = (settings.get(*key), defaults.get(*key));
        assert!(matches!(shown.source, Source::File { .. }), "{} is missing", setting.name);
        let joined = |texts: &[String]| texts.join(",");
        assert_eq!(joined(&shown.texts), joined(&default.texts), "{}", setting.name);
        let Source::File { line, .. } = shown.source else { unreachable!() };
        let above = text.lines().nth(line - 2).unwrap_or_default();
        assert!(above.starts_with("# "), "{} has no comment above it", setting.name);
    }
    assert!(Plan::new(&settings, 1).is_ok());
}

#[test]
fn every_setting_is_in_the_readme() {
    let readme = repository_file("README.md");
    for (_, setting) in SETTINGS {
        assert!(
            readme.contains(&format!("`--{}", setting.flag())),
            "--{} is not in README.md",
            setting.flag()
        );
    }
    for figure in figures() {
        let name = figure.split('.').next().unwrap_or_default();
        assert!(readme.contains(name), "{figure} is not in README.md");
    }
}

#[test]
fn metrics_md_lists_every_metric_as_it_is() {
    let text = repository_file("docs/METRICS.md");
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `tickgen_") || line.starts_with("| `process_"))
        .collect();
    let expected: Vec<String> = METRICS
        .iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            format!(
                "| `{}` | {} | {} | {} | {} |",
                metric.name,
                metric.kind.name(),
                labels.join(", "),
                metric.unit,
                metric.help
            )
        })
        .collect();
    assert_eq!(rows, expected, "docs/METRICS.md should be:\n{}", expected.join("\n"));
}

fn verify() -> VerifySummary {
    let mut verify = VerifySummary::default();
    verify.lost_ranges.push(LostRange { load: "a".into(), first: 1, last: 2 });
    verify.waterfall.stream_clock_ahead_ms = Some(ClockOffset { at_least: -0.5, at_most: 0.5 });
    verify
}

fn manifest() -> Manifest {
    let load = ManifestLoad {
        name: "a".into(),
        stream: Some("s".into()),
        stamp: StampPlace::Key,
        seed: 1,
        numbers: 5,
        not_acked: Some("1-2".into()),
        settings: [("keys".to_owned(), "uniform".to_owned())].into(),
        template: Some("{}".into()),
        local_utc_offset_s: Some(0),
    };
    Manifest { cannot: Some("c".into()), start_unix_ns: 1, loads: vec![load] }
}

/// Reports of `tickgen verify` with something in every field.
fn reports() -> [Value; 2] {
    let load = CountedLoad { place: "0".into(), delivered: 1, numbers: 3, gaps: 2 };
    let counted = CountedSummary { loads: vec![load], ..CountedSummary::default() };
    [Settled::Proved(Box::new(verify())), Settled::Counted(Box::new(counted))].map(|verify| {
        let report = VerifyReport {
            schema_version: VERIFY_SCHEMA_VERSION,
            tickgen_version: "0",
            run_id: "r".into(),
            read: "s".into(),
            started_at: "2026-11-22T18:54:00Z".into(),
            verify,
            index: Some(IndexSummary {
                event_to_searchable_ms: Some(TimeSummary::default()),
                measured_ratio: Some(0.5),
                ..IndexSummary::default()
            }),
            thresholds: vec![ThresholdResult { expr: "e".into(), value: 1.0, passed: true }],
        };
        serde_json::to_value(report).unwrap()
    })
}

#[test]
fn the_report_of_a_verification_fits_its_schema_and_the_schema_fits_the_report() {
    let schema = report_schema();
    let fields = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let mut in_verify = BTreeSet::new();
    for report in reports() {
        assert_eq!(violations(&schema, &report, ""), [] as [String; 0]);
        assert_eq!(fields(&schema["properties"]), fields(&report));
        in_verify.extend(fields(&report["verify"]));
    }
    assert_eq!(fields(&schema["properties"]["verify"]["properties"]), in_verify);
}

/// What every run knows of itself, and what it is charged by.
fn about() -> About {
    let prices = PriceList::built_in();
    let tariff = Tariff {
        region: "us-east-1".into(),
        prices: prices.regions.get("us-east-1").cloned(),
        prices_as_of: prices.as_of,
        mode: CapacityMode::OnDemand,
        streams: 2,
        readers: 0,
        fan_out: false,
        max_usd: None,
    };
    let environment = Environment { streams: vec![StreamFacts::default()], ..Environment::default() };
    About {
        configuration: [("rps".to_owned(), "5".to_owned())].into(),
        environment: Some(environment),
        tariff: Some(tariff),
        ceiling: Some(Ceiling { records_per_cpu_second: 1e6, processors: 2 }),
    }
}

/// A summary with something in every field.
fn summary() -> Value {
    let load = |name: &str| LoadFacts {
        name: name.into(),
        seed: 1,
        stream: format!("stream-{name}"),
        constant_rps: Some(5.0),
        open_loop: true,
    };
    let facts = RunFacts {
        run_id: "r".into(),
        started_at: "2026-11-22T18:54:00Z".into(),
        loads: vec![load("a"), load("b")],
        about: about(),
    };
    let judge = Judge::new(vec![Threshold::parse("lost == 0").unwrap()], facts);
    let loads = [Arc::new(Snapshot::empty()), Arc::new(Snapshot::empty())];
    let mut summary =
        serde_json::to_value(judge.summary(&loads, StoppedBy::Signal, Some("e".into()), None)).unwrap();
    summary["shards"] = serde_json::json!([
        {"stream": "s", "id": "shardId-000000000000", "acked": 1, "accepted": 1, "throttled": 0,
         "limit_rps": 980.0, "expected": null}
    ]);
    summary["hot_keys"] = serde_json::json!([{"key": "k", "records": 5}]);
    summary["windows"] = serde_json::json!([WindowSummary::new(&Window::default())]);
    summary["drills"] = serde_json::to_value([DrillSummary::default()]).unwrap();
    summary["verify"] = serde_json::to_value(verify()).unwrap();
    summary["manifest"] = serde_json::to_value(manifest()).unwrap();
    let row = ShardHeatRow {
        stream: Some("s".into()),
        accepted: vec![1],
        throttled: vec![1],
        ..Default::default()
    };
    let heat = ShardHeat { span_s: 1.0, shards: vec![row], left_out: 0 };
    summary["shard_heat"] = serde_json::to_value(heat).unwrap();
    let merged = MergedRun {
        run_id: "r".into(),
        started_at: "2026-11-22T18:54:00Z".into(),
        file: "a.json".into(),
        acked: 1,
        achieved_rps: 1.0,
    };
    summary["merged_from"] = serde_json::to_value([merged]).unwrap();
    summary["limit"]["by"] = serde_json::json!(["cpu"]);
    summary["flushes"] = serde_json::json!({"linger": 1});
    summary
}

/// The part of JSON Schema that the summary's schema uses.
pub(crate) fn violations(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").expect("a definition of this schema");
        return violations(&summary_schema()["$defs"][name], value, path);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => return vec![format!("{path}: the schema has no type")],
    };
    let fits = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    };
    if !types.iter().any(fits) {
        return vec![format!("{path}: {value} is not {types:?}")];
    }
    let mut found = Vec::new();
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        found.push(format!("{path}: {value} is not one of {values:?}"));
    }
    for item in value.as_array().into_iter().flatten() {
        found.extend(violations(&schema["items"], item, &format!("{path}[]")));
    }
    let Some(fields) = value.as_object() else { return found };
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(required) {
            found.push(format!("{path}.{required} is missing"));
        }
    }
    for (name, field) in fields {
        let (own, other) = (&schema["properties"][name], &schema["additionalProperties"]);
        match (own.is_object(), other.is_object()) {
            (true, _) => found.extend(violations(own, field, &format!("{path}.{name}"))),
            (false, true) => found.extend(violations(other, field, &format!("{path}.{name}"))),
            (false, false) => found.push(format!("{path}.{name} is not in the schema")),
        }
    }
    found
}

pub(crate) fn summary_schema() -> Value {
    serde_json::from_str(&repository_file("docs/summary.schema.json")).unwrap()
}

pub(crate) fn report_schema() -> Value {
    serde_json::from_str(&repository_file("docs/verify.schema.json")).unwrap()
}

pub(crate) fn search_schema() -> Value {
    serde_json::from_str(&repository_file("docs/search.schema.json")).unwrap()
}

#[test]
fn the_summary_fits_its_schema_and_the_schema_fits_the_summary() {
    let schema = summary_schema();
    assert_eq!(violations(&schema, &summary(), ""), [] as [String; 0]);
    let fields: BTreeSet<String> = summary().as_object().unwrap().keys().cloned().collect();
    let described: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    let required: BTreeSet<String> =
        schema["required"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
    assert_eq!(fields, described);
    let optional: BTreeSet<String> =
        ["loads", "verify", "cost", "configuration", "environment", "shard_heat", "merged_from"]
            .map(String::from)
            .into();
    assert_eq!(fields, &required | &optional);
    for (name, property) in schema["properties"].as_object().unwrap() {
        assert!(property["description"].is_string(), "{name} has no description");
    }
}

/// Summaries of a search with something in every field.
fn searches() -> [Value; 2] {
    let facts = SearchFacts {
        started_at: "2026-11-22T18:54:00Z".into(),
        stream: "s".into(),
        seed: 1,
        objective: vec!["lost == 0".into()],
        from_rps: 100.0,
        to_rps: 200.0,
        precision: 0.01,
        step_s: 15.0,
        warmup_s: 2.0,
        capacity_rps: Some(5.0),
    };
    let load = LoadFacts {
        name: String::new(),
        seed: 1,
        stream: "s".into(),
        constant_rps: Some(100.0),
        open_loop: true,
    };
    let run = RunFacts {
        run_id: "r".into(),
        started_at: facts.started_at.clone(),
        loads: vec![load],
        about: About::default(),
    };
    let judge = Judge::new(vec![Threshold::parse("acked > 0").unwrap()], run);
    let run = judge.summary(&[Arc::new(Snapshot::empty())], StoppedBy::Threshold, None, None);
    let rate: Rate = "100".parse().unwrap();
    let points = vec![Point::new(rate, &run, Some(run.thresholds.clone()))];
    let found = Answer::Found { holds: rate, fails: rate };
    let found = SearchSummary::answered(facts.clone(), found, points);
    let failed = SearchSummary::without_answer(facts, Verdict::Failed, Some("e".into()), Vec::new());
    [found, failed].map(|summary| serde_json::to_value(summary).unwrap())
}

pub(crate) fn calibration_schema() -> Value {
    serde_json::from_str(&repository_file("docs/calibration.schema.json")).unwrap()
}

#[test]
fn a_calibration_fits_its_schema_and_the_schema_fits_the_calibration() {
    let schema = calibration_schema();
    let mut calibration = Calibration { kept_in: Some("f".into()), ..Calibration::default() };
    calibration.of.settings.insert("aggregate".into(), "true".into());
    let calibration = serde_json::to_value(calibration).unwrap();
    assert_eq!(violations(&schema, &calibration, ""), [] as [String; 0]);
    let fields = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    for (schema, value) in [(&schema, &calibration), (&schema["properties"]["tls"], &calibration["tls"])] {
        let required = schema["required"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned());
        let optional = ["kept_in".to_owned()].into_iter().filter(|name| value.get(name).is_some());
        let named: BTreeSet<String> = required.chain(optional).collect();
        assert_eq!((fields(&schema["properties"]), named), (fields(value), fields(value)));
    }
}

#[test]
fn the_summary_of_a_search_fits_its_schema_and_the_schema_fits_the_summary() {
    let schema = search_schema();
    for search in searches() {
        assert_eq!(violations(&schema, &search, ""), [] as [String; 0]);
    }
    let fields = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let required = |schema: &Value| -> BTreeSet<String> {
        schema["required"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let search = &searches()[0];
    for (schema, value) in
        [(&schema, search), (&schema["properties"]["points"]["items"], &search["points"][0])]
    {
        assert_eq!((fields(&schema["properties"]), required(schema)), (fields(value), fields(value)));
    }
    let mut wrong = search.clone();
    wrong["verdict"] = "perhaps".into();
    assert_eq!(violations(&schema, &wrong, "").len(), 1);
}

#[test]
fn the_schema_check_finds_what_is_wrong() {
    let schema = summary_schema();
    for (field, wrong) in
        [("acked", Value::from("5")), ("balanced", Value::Null), ("stopped_by", "me".into())]
    {
        let mut summary = summary();
        summary[field] = wrong;
        assert_eq!(violations(&schema, &summary, "").len(), 1, "{field}");
    }
}

#[test]
fn the_templates_of_the_documents_render() {
    let file = "docs/templates/trade.json";
    let text = repository_file(file);
    assert!(repository_file("README.md").contains(&format!("```jinja\n{text}```")), "README.md differs");
    let time = EventTime::new(1_795_373_640_000_000_000, TimeZone::Utc);
    let ticks = Ticks::new(1, Market::Walk, &["AMZN".to_owned()], None, time).unwrap();
    let keys = Keys::new(&"ticker".parse().unwrap(), 1, &ticks);
    let template = TemplateText { file: file.to_owned(), text };
    let template = Template::new(&template, 1, &ticks, u64::MAX).unwrap();
    let mut source = Records::new(ticks, keys).with_template(template);
    for n in [0, 1, 123_456] {
        let mut payload = Vec::new();
        source.write_payload(n, 123_456_789, &mut payload);
        assert_eq!((payload.len(), source.payload_len(n, 123_456_789)), (400, 400));
        let value: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((&value["record"], &value["symbol"]), (&n.into(), &"AMZN".into()));
        assert_eq!(value["time"], "2026-11-22T18:54:00.123456Z");
        assert!(value["price"].is_f64() && value["limit"].is_f64() && value["volume"].is_u64());
    }
    assert_eq!(source.failures(), (0, None));
}

/// What a record costs is told as it is held.
#[test]
fn held_instructions_are_in_performance_md() {
    let held = repository_file("benches/instructions.txt");
    let told = repository_file("docs/PERFORMANCE.md");
    for (case, count) in held.lines().filter_map(|line| line.split_once(' ')).filter(|(case, _)| *case != "#")
    {
        assert!(told.contains(&format!("| `{case}` | {count} |")), "{case} is {count}");
    }
}
