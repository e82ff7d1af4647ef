//! Comparing what was recorded with what a model or the engine answers, field by field.

use serde_json::Value;

/// What the recordings hold and no model is asked for: how many entries an index has, and lists of files.
const EXCEPTED: [&str; 5] = ["offsetIndexEntries", "timeIndexEntries", "filesAfter", "loadArgs", "cause"];

/// What was compared, and what was not the same.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    pub fields: u64,
    pub mismatches: Vec<String>,
}

impl Comparison {
    /// Every field that is recorded must be there and be the same.
    pub fn of(&mut self, place: &str, recorded: &Value, got: &Value) {
        match (recorded, got) {
            (Value::Object(fields), Value::Object(_)) => {
                for (name, field) in fields.iter().filter(|(name, _)| !EXCEPTED.contains(&name.as_str())) {
                    self.of(&format!("{place}.{name}"), field, got.get(name).unwrap_or(&Value::Null));
                }
            }
            (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => {
                for (at, (expected, got)) in expected.iter().zip(got).enumerate() {
                    self.of(&format!("{place}[{at}]"), expected, got);
                }
            }
            _ => {
                self.fields += 1;
                if recorded != got {
                    self.mismatches.push(format!("{place}: recorded {recorded}, got {got}"));
                }
            }
        }
    }

    pub fn same<T: PartialEq + std::fmt::Debug>(&mut self, place: &str, recorded: &T, got: &T) {
        self.fields += 1;
        if recorded != got {
            self.mismatches.push(format!("{place}: recorded {recorded:?}, got {got:?}"));
        }
    }

    pub fn add(&mut self, other: Self) {
        self.fields += other.fields;
        self.mismatches.extend(other.mismatches);
    }

    /// # Panics
    ///
    /// If anything was not the same, with the first of it.
    pub fn expect_none(&self, what: &str) {
        assert!(
            self.mismatches.is_empty(),
            "{what}: {} of {} fields differ:\n{}",
            self.mismatches.len(),
            self.fields,
            self.mismatches.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
        );
    }
}
