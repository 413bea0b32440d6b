use serde::de::IgnoredAny;

/// Writes payloads as NDJSON: each on a line of its own, as a JSON value.
#[derive(Clone, Debug)]
pub(super) struct LineWriter {
    pub(super) lines: Vec<u8>,
    // Whether payloads may be something else than JSON on one line.
    checks: bool,
}

impl LineWriter {
    pub(super) fn new(checks: bool) -> Self {
        Self { lines: Vec::new(), checks }
    }

    /// Appends a payload: one that is JSON as it is, with spaces for the line breaks between its tokens, any other
    /// as a JSON string.
    pub(super) fn entry(&mut self, payload: &[u8]) {
        if !self.checks {
            self.lines.extend_from_slice(payload);
        } else if serde_json::from_slice::<IgnoredAny>(payload).is_ok() {
            // A line break within a JSON string is escaped, so that these are white space.
            let space = |byte: u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
            self.lines.extend(payload.iter().map(|byte| space(*byte)));
        } else {
            let text = serde_json::Value::from(String::from_utf8_lossy(payload));
            self.lines.extend_from_slice(text.to_string().as_bytes());
        }
        self.lines.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(payload: &[u8]) -> String {
        let mut writer = LineWriter::new(true);
        writer.entry(payload);
        String::from_utf8(writer.lines).unwrap()
    }

    #[test]
    fn json_is_written_as_it_is_and_all_else_as_a_string() {
        for (payload, written) in [
            ("{\"a\": \"x\\ny\"}", "{\"a\": \"x\\ny\"}\n"),
            ("{\n  \"a\": 1\r\n}", "{   \"a\": 1  }\n"),
            ("5", "5\n"),
            ("two\nlines, \"quoted\"", "\"two\\nlines, \\\"quoted\\\"\"\n"),
            ("{\"a\": 1} {\"a\": 2}", "\"{\\\"a\\\": 1} {\\\"a\\\": 2}\"\n"),
            ("", "\"\"\n"),
        ] {
            assert_eq!(line(payload.as_bytes()), written);
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_one_line_of_json_that_tells_it(payload in "\\PC{0,20}[\n\r\"{}]{0,3}\\PC{0,20}") {
            let written = line(payload.as_bytes());
            prop_assert_eq!(written.find('\n'), Some(written.len() - 1));
            let value: serde_json::Value = serde_json::from_str(&written).unwrap();
            if let Ok(json) = serde_json::from_str::<serde_json::Value>(&payload) {
                prop_assert_eq!(value, json);
            } else {
                prop_assert_eq!(value.as_str(), Some(payload.as_str()));
            }
        }
    }
}
