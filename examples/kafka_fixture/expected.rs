//! `expected.json`, written when the log is closed or its process is dead.

use std::path::{Path, PathBuf};

use idemlog::inspect::{InspectOptions, inspect};
use idemlog::{Offset, Timestamp};
use serde_json::{Value, json};

use crate::Result;
use crate::arguments::Arguments;
use crate::operations::{EXPIRY_MS, SEGMENT_BYTES, TOPIC, TOPIC_ID};

/// Adds to the report what the directory tells, and writes it there.
pub(crate) fn write(arguments: &Arguments, report: &Value) -> Result<PathBuf> {
    let directory = &arguments.directory;
    let partition = directory.join(format!("{TOPIC}-0"));
    let checkpointed = |name| checkpointed(&directory.join(name));
    let writer = json!({
        "cleanShutdown": !arguments.crash,
        "recoveryPoint": checkpointed("recovery-point-offset-checkpoint")?,
        "logStartOffset": checkpointed("log-start-offset-checkpoint")?,
        "nowMs": report["nowMs"],
    });
    let mut state = report["stateBeforeClose"].clone();
    count_index_entries(&partition, &writer, &mut state)?;
    let expected = json!({
        "case": format!("seed_{}{}", arguments.seed, if arguments.crash { "_crash" } else { "" }),
        "description": format!("random operations of idemlog: {}", report["counts"]),
        "config": config(),
        "stateBeforeClose": state,
        "writer": writer,
        "files": files(&partition)?,
        "appends": report["appends"],
    });
    let path = directory.join("expected.json");
    std::fs::write(&path, format!("{expected:#}\n"))?;
    Ok(path)
}

fn config() -> Value {
    let text = |number: u32| number.to_string();
    json!({
        "file.delete.delay.ms": "0",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "segment.bytes": text(SEGMENT_BYTES),
        "segment.index.bytes": text(SEGMENT_BYTES),
        "producer.id.expiration.ms": EXPIRY_MS,
        "topicId": TOPIC_ID.to_string(),
    })
}

/// The offset in a checkpoint of one partition; 0 where none was written.
fn checkpointed(path: &Path) -> Result<i64> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        read => read?,
    };
    let offset = text.lines().nth(2).and_then(|line| line.rsplit(' ').next()?.parse().ok());
    offset.ok_or_else(|| format!("{} has no offset", path.display()).into())
}

/// How many entries the indexes have, for who loads the directory.
fn count_index_entries(partition: &Path, writer: &Value, state: &mut Value) -> Result {
    let number = |key: &str| writer[key].as_i64().unwrap_or_default();
    let options = InspectOptions::default()
        .clean(writer["cleanShutdown"] == true)
        .recovery_point(Offset(number("recoveryPoint")))
        .log_start(Some(Offset(number("logStartOffset"))))
        .now(Some(Timestamp(number("nowMs"))));
    let loaded = inspect(partition, &options)?.segments;
    let segments = state["segments"].as_array_mut().ok_or("no segments")?;
    for (segment, loaded) in segments.iter_mut().zip(loaded) {
        segment["offsetIndexEntries"] = loaded.offset_index_entries.into();
        segment["timeIndexEntries"] = loaded.time_index_entries.into();
    }
    Ok(())
}

fn files(partition: &Path) -> Result<Vec<Value>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(partition)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    let file = |path: &PathBuf| {
        let bytes = std::fs::read(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(json!({ "name": name, "size": bytes.len(), "crc32c": crc32c::crc32c(&bytes) }))
    };
    paths.iter().map(file).collect()
}
