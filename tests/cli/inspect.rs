//! `inspect` and `producers`.

use idemlog::{BatchBuilder, ControlRecord, IoMode, Offset, ProducerEpoch, ProducerId, Sequence};
use serde_json::Value;

use crate::common::open;
use crate::{closed, idemlog, text};

#[test]
fn inspect_prints_the_state_as_json() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let output =
        idemlog(&["inspect", "--json", partition.to_str().unwrap(), "--unclean", "--recovery-point", "2"]);
    let state: Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!(state["logEndOffset"], 10);
    assert_eq!(state["producers"][0]["batches"][4]["lastSeq"], 9);
    assert_eq!(state["recoveryPoint"], 2);
    assert_eq!(state["recovery"]["markedClean"], false);
    assert!(state["recovery"]["cut"].is_null());
}

#[test]
fn producers_are_printed_as_json_as_inspect_prints_them() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let json = |command| -> Value {
        let output = idemlog(&[command, "--json", partition.to_str().unwrap()]);
        serde_json::from_str(&text(&output)).unwrap()
    };
    let producers = json("producers");
    assert_eq!(producers["producers"][0]["producerId"], 7);
    assert_eq!(
        (&producers["producers"], &producers["inUse"]),
        (&json("inspect")["producers"], &false.into())
    );
}

/// `--producer-expiry` did nothing.
#[test]
fn inspect_forgets_producers_that_were_idle_for_as_long_as_it_is_told() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let count = |expiry: &str| {
        let told =
            ["inspect", "--json", partition.to_str().unwrap(), "--now", "11000", "--producer-expiry", expiry];
        let state: Value = serde_json::from_str(&text(&idemlog(&told))).unwrap();
        state["producers"].as_array().unwrap().len()
    };
    // The last batch is of 1,008.
    assert_eq!((count("9993"), count("9992")), (1, 0));
}

#[test]
fn inspect_tells_of_segments_and_aborted_transactions() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for (id, abort) in [(7, true), (8, false)] {
        let (id, epoch, coordinator_epoch) = (ProducerId(id), ProducerEpoch(0), 0);
        let batch = BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record("k", "v");
        log.append(&batch.build().unwrap()).unwrap();
        if abort {
            log.end_transaction(id, epoch, ControlRecord::Abort { coordinator_epoch }).unwrap();
        }
    }
    dir.close().unwrap();
    let partition = data.path().join("orders-0");
    let output = idemlog(&["inspect", "--json", partition.to_str().unwrap()]);
    let state: Value = serde_json::from_str(&text(&output)).unwrap();
    let segment = &state["segments"][0];
    let aborted = serde_json::json!([
        { "producerId": 7, "firstOffset": 0, "lastOffset": 1, "lastStableOffset": 2 },
    ]);
    assert_eq!(segment["abortedTxns"], aborted);
    assert_eq!((&segment["offsetIndexEntries"], &segment["timeIndexEntries"]), (&0.into(), &1.into()));
    assert_eq!((&state["firstUndecidedOffset"], &state["lastStableOffset"]), (&2.into(), &2.into()));
    let lines = text(&idemlog(&["inspect", partition.to_str().unwrap()]));
    assert!(lines.contains("\nsegment 0 to 3, ") && lines.contains(", aborted transactions: 1\n"), "{lines}");
}

/// `inspect` took every log for closed well and began it at its first segment, whatever lay beside it.
#[test]
fn inspect_goes_by_what_lies_beside_the_partition() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let path = partition.to_str().unwrap();
    assert!(
        text(&idemlog(&["inspect", path])).starts_with("closed well, an opening would begin at offset 10:")
    );
    assert!(text(&idemlog(&["inspect", path, "--unclean"])).starts_with("not closed well, "));

    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    log.delete_records(Offset(4)).unwrap();
    log.set_high_watermark(Offset(8));
    dir.close().unwrap();
    drop((dir, log));
    let state: Value = serde_json::from_str(&text(&idemlog(&["inspect", "--json", path]))).unwrap();
    assert_eq!((&state["logStartOffset"], &state["checkpointedHighWatermark"]), (&4.into(), &8.into()));
    let state = idemlog(&["inspect", "--json", path, "--log-start", "0", "--recovery-point", "2"]);
    let state: Value = serde_json::from_str(&text(&state)).unwrap();
    assert_eq!((&state["logStartOffset"], &state["recovery"]["recoveryPoint"]), (&0.into(), &2.into()));

    // As `kill -9` leaves it.
    drop(open(data.path(), IoMode::Mapped));
    assert!(
        text(&idemlog(&["inspect", path]))
            .starts_with("not closed well, an opening would begin at offset 10:")
    );
    assert!(text(&idemlog(&["inspect", path, "--clean"])).starts_with("closed well, "));
}

#[test]
fn inspect_tells_what_an_opening_refuses() {
    let (data, log) = closed();
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    let partition = data.path().join("orders-0");
    let refused = idemlog(&["inspect", partition.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused).starts_with("an opening refuses this: "), "{refused:?}");
    assert!(text(&refused).contains("2 offsets below the recovery point 10 were durable"), "{refused:?}");
    assert!(text(&refused).contains("  it would cut in front of damage at offset 8"), "{refused:?}");
    let json = idemlog(&["inspect", "--json", partition.to_str().unwrap()]);
    let json: Value = serde_json::from_str(&text(&json)).unwrap();
    assert_eq!(json["refused"], true);
    let dir = open(data.path(), IoMode::Mapped);
    assert!(dir.partition("orders", 0).is_err());
}
