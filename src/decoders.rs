//! Everything that reads bytes of others, as one function each: what `fuzz/` and the property tests below run.
//! In tests and under `cargo fuzz` only.
#![expect(clippy::missing_panics_doc, reason = "a panic is what is looked for")]

use crate::config::Settings;
use crate::kinesis::protocol::{Form, StreamRef, read_answer};
use crate::kinesis::{Answer, ShardId};
use crate::load::{Rate, SECOND, parse_arrivals, parse_shape};
use crate::observe::Threshold;
use crate::plan::{Drill, Plan, SearchPlan};
use crate::producer::aggregate;
use crate::settings::{Key, SETTINGS};
use crate::tick::{EventTime, Fed, KeyKind, Market, Stamp, Template, TemplateText, Ticks, TimeZone};
use std::path::Path;

/// What is read: the name of its fuzz target, its function, and input to begin with.
pub type Decoder = (&'static str, fn(&[u8]), &'static [&'static [u8]]);

/// Every decoder.
pub const DECODERS: &[Decoder] = &[
    ("aggregate", aggregate, &[b"\x0a\x01a\x0a\x02bc\x12\x017\x1a\x06\x08\x00\x1a\x02hi\x1a\x08\x08\x01\x10\x00\x1a\x02ho"]),
    (
        "answer",
        answer,
        &[
            br#"{"EncryptionType":"NONE","FailedRecordCount":1,"Records":[{"SequenceNumber":"49","ShardId":"shardId-000000000007"},{"ErrorCode":"InternalFailure","ErrorMessage":"Internal service failure."}]}"#,
            br#"{"Records":[]}"#,
            b"\xA2\x71FailedRecordCount\x01\x67Records\x9F\xBF\x6ESequenceNumber\x6249\x67ShardId\x74shardId-000000000007\xFF\xA1\x69ErrorCode\x6FInternalFailure\xFF",
        ],
    ),
    (
        "config",
        config,
        &[
            b"rps = 10\nthreshold = [\"lost == 0\"]\n[[load]]\nname = \"a\"\nshape = \"stages:0,5000/30s\"\naggregate = true\n[[load]]\nname = \"b\"\n",
        ],
    ),
    (
        "expression",
        expression,
        &[
            b"response_time_ms.p99 < 250 and lost == 0 and achieved_rps >= 99%",
            b"at=20s split=hottest",
            b"at=1m scale=8",
            b"stages:0,5000/30s,5000/5m,8000/0s",
            b"sine:mean=1000,amplitude=500,period=1m",
            b"spike:base=1,peak=9,rise=1s,hold=1s,fall=1s,period=9s",
            b"hawkes:excitation=0.5,decay=200ms",
            b"zipf:1.1:1000",
            b"fixed:k",
            b"shardId-000000000007",
            b"arn:aws:kinesis:us-east-1:123456789012:stream/s",
        ],
    ),
    (
        "replay",
        replay,
        &[
            b"\xEF\xBB\xBF{\"timestamp\":\"2026-11-22T18:54:00Z\",\"a\":1,\"k\":\"x\"}\n{\"timestamp\":1795373640.5,\"a\":2,\"k\":\"y\"}\n",
            b"timestamp,a,k\n1795373640,\"1\n,\"\"\",x\n1795373641,2,y\n",
            b"{\"timestamp\":0,\"k\":1}\n{\"timestamp\":10000000000000000000,\"k\":2}\n",
        ],
    ),
    (
        "setting",
        setting,
        &[b"\x001000", b"\x01stages:0,10/1s", b"\x0a51200", b"\x20adaptive", b"\x14at=20s split=hottest", b"\x0cuniform"],
    ),
    (
        "stamp",
        stamp,
        &[
            b"0000002a-01-000000000007-18ed4f1b2c3d4e5f",
            b"{\"EVENT_TIME\": \"2026-11-22T18:54:00.123456\", \"STAMP\": \"0000002a-01-000000000007-18ed4f1b2c3d4e5f\"}",
        ],
    ),
    (
        "template",
        template,
        &[
            b"{\"n\":{{ n }},\"s\":{{ symbol|tojson }},\"p\":{{ price }}}",
            b"{% for i in range(9) %}{% if i > 3 and n < 5 %}{{ i * 2 ~ 'x' }}{% endif %}{% endfor %}",
            b"{% set a = [1, 'b', {'c': 2}] %}{{ a[2].c|string|length }}{{ \"%.2f\"|format(1.5) }}",
        ],
    ),
    #[cfg(feature = "native-histograms")]
    (
        "accept",
        accept,
        &[b"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;q=0.5,*/*;q=0.1"],
    ),
];

/// Aggregated records, as they are and with a digest that fits: a damaged message would not get past it.
pub fn aggregate(bytes: &[u8]) {
    for bytes in [bytes, &aggregate::sealed(bytes)] {
        if let Ok(records) = aggregate::decode(bytes) {
            // A record is a tag, a length, a key's index and data.
            assert!(records.len() <= bytes.len() / 6, "{} of {}", records.len(), bytes.len());
        }
    }
}

/// Answers to `PutRecords`.
pub fn answer(bytes: &[u8]) {
    for form in [Form::Json, Form::Cbor] {
        if let Answer::Entries(entries) = read_answer(bytes, form) {
            assert!(entries.len() <= bytes.len() / 10);
        }
    }
}

/// Configuration files.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (settings, _) = Settings::layer(Some((Path::new("c.toml"), text)), [], Vec::new());
    plan(&settings);
}

/// A setting, by its number, with the text that follows.
pub fn setting(bytes: &[u8]) {
    let Some((number, text)) = bytes.split_first() else { return };
    let (_, setting) = SETTINGS[usize::from(*number) % SETTINGS.len()];
    let variable = (setting.variable(), String::from_utf8_lossy(text).into_owned());
    let (settings, _) = Settings::layer(None, [variable], Vec::new());
    plan(&settings);
}

/// Plans, unless that would open a file or look a name up.
fn plan(settings: &Settings) {
    let reaches_out = |settings: &Settings| {
        [Key::Template, Key::AdminAddr]
            .iter()
            .any(|&key| settings.get(key).texts.iter().any(|text| !text.is_empty()))
    };
    if !reaches_out(settings) && !settings.loads().iter().any(|(_, own)| reaches_out(own)) {
        let _ = Plan::new(settings, 1);
        let _ = SearchPlan::new(settings, 1);
    }
}

/// The small languages of the settings: thresholds, objectives, drills, shapes, arrivals, keys, rates, names.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read_time = |text: &str| {
        let seconds = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic()).parse();
        seconds.map(|seconds: u32| u64::from(seconds) * SECOND).map_err(|_| "no time".to_owned())
    };
    if let Ok(shape) = parse_shape(text, read_time) {
        let (due, later) = (shape.due(SECOND), shape.due(2 * SECOND));
        assert!(due <= later);
    }
    let _ = parse_arrivals(text, read_time);
    let _ = (Threshold::parse(text), Threshold::parse_all(text), Drill::parse(text));
    let _ = (text.parse::<KeyKind>(), text.parse::<Rate>(), text.parse::<Market>());
    let _ = (StreamRef::parse(text), crate::admin::Probe::parse(text));
    if let Some(shard) = ShardId::parse(text) {
        assert_eq!(ShardId::parse(&shard.to_string()), Some(shard));
    }
}

/// Files to replay, as lines and as CSV.
pub fn replay(bytes: &[u8]) {
    for name in ["f.ndjson", "f.csv"] {
        let mut fed = crate::run::replayed(name, bytes);
        let end = fed.pop();
        let mut last = 0;
        for fed in fed {
            let Fed::Record(record) = fed else { panic!("{fed:?} before the end") };
            assert!(record.at >= last, "{} after {last}", record.at);
            last = record.at;
        }
        match end {
            Some(Fed::End(span)) => assert!(span >= last, "ends at {span}, before {last}"),
            end => assert!(matches!(end, Some(Fed::Failed(_))), "{end:?}"),
        }
    }
}

/// Stamps in keys and payloads.
pub fn stamp(bytes: &[u8]) {
    if let Some(stamp) = Stamp::parse(bytes) {
        assert_eq!(stamp.text(), bytes);
    }
    let _ = Stamp::in_payload(bytes);
}

/// Payload templates: compiled, and rendered for five records.
pub fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let time = EventTime::new(0, TimeZone::Utc);
    let Ok(ticks) = Ticks::new(1, Market::Random, &["AMZN".to_owned()], None, time) else { return };
    let text = TemplateText { file: "t".to_owned(), text: text.to_owned() };
    let _ = Template::new(&text, 1, &ticks, 5);
}

/// What a scraper accepts.
#[cfg(feature = "native-histograms")]
pub fn accept(bytes: &[u8]) {
    let _ = crate::observe::prefers_protobuf(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    /// Inputs for each decoder.
    const CASES: u32 = 3_000;

    /// KiB of address space and seconds of processor time for all of them together: some four times what they take.
    const LIMITS: &str = "ulimit -v 1048576 && ulimit -t 240";

    /// What texts are made of that decoders look for.
    const WORDS: [&[u8]; 16] = [
        b"{",
        b"[",
        b"\"",
        b"{{",
        b"{%",
        b"%}",
        b"\\u0000",
        b"\xFF",
        b"18446744073709551616",
        b"-1",
        b"1e999",
        b"NaN",
        b",",
        b"=",
        b"\n",
        b"(",
    ];

    /// A change of an input; places are shares of its length.
    #[derive(Clone, Debug)]
    enum Change {
        Set(prop::sample::Index, u8),
        Insert(prop::sample::Index, &'static [u8]),
        Remove(prop::sample::Index, usize),
        Repeat(prop::sample::Index, usize, usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let place = any::<prop::sample::Index>;
        prop_oneof![
            (place(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
            (place(), prop::sample::select(&WORDS[..])).prop_map(|(at, word)| Change::Insert(at, word)),
            (place(), 1_usize..20).prop_map(|(at, length)| Change::Remove(at, length)),
            (place(), 1_usize..20, 1_usize..400)
                .prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        ]
    }

    fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
        for change in changes {
            if bytes.is_empty() {
                bytes.push(b' ');
            }
            match *change {
                Change::Set(at, byte) => *at.get_mut(&mut bytes) = byte,
                Change::Insert(at, word) => {
                    let at = at.index(bytes.len());
                    bytes.splice(at..at, word.iter().copied());
                }
                Change::Remove(at, length) => {
                    let at = at.index(bytes.len());
                    bytes.drain(at..(at + length).min(bytes.len()));
                }
                Change::Repeat(at, length, times) => {
                    let at = at.index(bytes.len());
                    let part = bytes[at..(at + length).min(bytes.len())].repeat(times);
                    bytes.splice(at..at, part);
                }
            }
        }
        bytes
    }

    fn input(seeds: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            1 => any::<Vec<u8>>(),
            1 => "\\PC{0,60}".prop_map(String::into_bytes),
            4 => (prop::sample::select(seeds), prop::collection::vec(change(), 0..6))
                .prop_map(|(seed, changes)| changed(seed.to_vec(), &changes)),
        ]
    }

    /// In a process of its own, whose memory and processor time are bounded, so that an input that takes any of
    /// them without end fails rather than harms.
    #[test]
    fn any_bytes_are_read_within_bounds() {
        let own = std::env::current_exe().unwrap();
        let test = "decoders::tests::in_a_bounded_process";
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{LIMITS} && exec \"$0\" --exact {test} --ignored --test-threads=1")]);
        let output = command.arg(own).output().unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{:?}: {}", output.status, texts.concat());
        assert!(texts[0].contains("1 passed"), "{}", texts.concat());
    }

    #[test]
    #[ignore = "run by any_bytes_are_read_within_bounds"]
    fn in_a_bounded_process() {
        for (name, decode, seeds) in DECODERS {
            eprintln!("{name}");
            let config =
                ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
            proptest!(config, |(bytes in input(seeds))| decode(&bytes));
        }
    }

    #[test]
    fn every_decoder_has_a_fuzz_target() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for (name, ..) in DECODERS {
            let target = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
            assert!(target.contains(&format!("tickgen::decoders::{name}(bytes)")), "{name}");
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        }
    }
}
