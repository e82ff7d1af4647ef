//! Snapshots of any bytes beside a sound log.

use std::path::Path;

use arbitrary::Arbitrary;
use idemlog::sim::SimDisk;
use idemlog::{Log, ProducerInfo, ProducerPolicy, SequenceRule, Timestamp};

use crate::files::{fix_snapshot, write};
use crate::sim::{Host, PARTITION, mode, small, stored};
use crate::template::{self, Template, batch};

#[derive(Arbitrary, Debug)]
pub struct Input {
    pub increasing: bool,
    pub window: u8,
    /// Where the snapshot says it was taken.
    pub offset: u8,
    pub bytes: Bytes,
}

#[derive(Arbitrary, Debug)]
pub enum Bytes {
    Raw(Vec<u8>),
    /// The same, with version and checksum put right.
    Fixed(Vec<u8>),
    /// Entries and a trailer of the right sizes.
    Shaped {
        entries: Vec<Entry>,
        identity: Option<[i64; 3]>,
        damage: Vec<(u16, u8)>,
    },
    /// One of the log's own, changed.
    Changed {
        which: u8,
        damage: Vec<(u16, u8)>,
    },
}

#[derive(Arbitrary, Debug)]
pub struct Entry {
    producer: u8,
    epoch: i16,
    last: Stored,
    coordinator_epoch: i32,
    transaction_first: i64,
    last_seen: u32,
    older: Vec<Stored>,
    supplement: Option<(u8, i16, Stored)>,
}

#[derive(Arbitrary, Debug)]
struct Stored {
    last_offset: i64,
    timestamp: i64,
    last_sequence: i32,
    offset_delta: i32,
    crc: u32,
}

impl Stored {
    fn bytes(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..8].copy_from_slice(&self.last_offset.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.last_sequence.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.offset_delta.to_be_bytes());
        bytes[24..].copy_from_slice(&self.crc.to_be_bytes());
        bytes
    }
}

fn shape(entries: &[Entry], identity: Option<&[i64; 3]>) -> Vec<u8> {
    let older = |entry: &Entry| entry.older.len().min(80);
    let mut bytes = vec![0; 6];
    bytes.extend((entries.len() as i32).to_be_bytes());
    for entry in entries {
        bytes.extend(i64::from(entry.producer).to_be_bytes());
        bytes.extend(entry.epoch.to_be_bytes());
        bytes.extend(entry.last.last_sequence.to_be_bytes());
        bytes.extend(entry.last.last_offset.to_be_bytes());
        bytes.extend(entry.last.offset_delta.to_be_bytes());
        bytes.extend(entry.last.timestamp.to_be_bytes());
        bytes.extend(entry.coordinator_epoch.to_be_bytes());
        bytes.extend(entry.transaction_first.to_be_bytes());
    }
    bytes.extend(b"IDLP");
    bytes.extend(1_i16.to_be_bytes());
    bytes.extend(i16::from(identity.is_some()).to_be_bytes());
    let [epoch_and_crc, base_offset, position] = identity.copied().unwrap_or_default();
    bytes.extend(((epoch_and_crc >> 32) as i32).to_be_bytes());
    bytes.extend(base_offset.to_be_bytes());
    bytes.extend(position.to_be_bytes());
    bytes.extend((epoch_and_crc as u32).to_be_bytes());
    bytes.extend((entries.iter().map(older).sum::<usize>() as u32).to_be_bytes());
    bytes.extend((entries.iter().filter(|entry| entry.supplement.is_some()).count() as u32).to_be_bytes());
    for entry in entries {
        bytes.extend(entry.last_seen.to_be_bytes());
        bytes.extend(entry.last.crc.to_be_bytes());
        bytes.push(older(entry) as u8);
        bytes.push(u8::from(entry.supplement.is_some()));
    }
    for entry in entries {
        entry.older.iter().take(older(entry)).for_each(|batch| bytes.extend(batch.bytes()));
    }
    for (flags, epoch, last) in entries.iter().filter_map(|entry| entry.supplement.as_ref()) {
        bytes.push(*flags);
        bytes.extend(epoch.to_be_bytes());
        bytes.extend(&last.bytes()[..24]);
    }
    bytes
}

fn damaged(mut bytes: Vec<u8>, damage: &[(u16, u8)]) -> Vec<u8> {
    for &(at, to) in damage {
        let at = usize::from(at) % bytes.len().max(1);
        bytes.get_mut(at).into_iter().for_each(|byte| *byte = to);
    }
    fix_snapshot(&mut bytes);
    bytes
}

fn bytes(input: &Bytes, template: &Template) -> Vec<u8> {
    match input {
        Bytes::Raw(bytes) => bytes.clone(),
        Bytes::Fixed(bytes) => damaged(bytes.clone(), &[]),
        Bytes::Shaped { entries, identity, damage } => {
            damaged(shape(&entries[..entries.len().min(64)], identity.as_ref()), damage)
        }
        Bytes::Changed { which, damage } => {
            let own: Vec<_> = template.files.iter().filter(|(name, _)| name.ends_with(".snapshot")).collect();
            damaged(
                own.get(usize::from(*which) % own.len().max(1)).map_or(Vec::new(), |own| own.1.clone()),
                damage,
            )
        }
    }
}

/// Puts the snapshot beside a sound log: it opens with every batch, and goes on.
pub fn open(input: &Input) {
    let template = &template::all()[0];
    let points =
        [template.log_end, template.bases[template.bases.len() - 1], template.bases[0], template.log_end + 5];
    let name = format!("{:020}.snapshot", points[usize::from(input.offset) % points.len()]);
    let mut files = template.files.clone();
    files.retain(|(other, _)| !other.ends_with(".snapshot"));
    files.push((name, bytes(&input.bytes, template)));
    let disk = SimDisk::new(mode(false));
    write(&disk, Path::new(PARTITION), &files);
    let rule = if input.increasing { SequenceRule::Increasing } else { SequenceRule::Contiguous };
    let policy = ProducerPolicy::default().window(1 + input.window % 64).sequence_rule(rule);
    go_on(&Host::new(disk, small().producers(policy)), template.log_end);
}

/// What is remembered, without the time, which is rounded.
fn remembered(log: &Log) -> Vec<ProducerInfo> {
    let mut producers = log.producers();
    producers.iter_mut().for_each(|producer| producer.last_seen = Timestamp(0));
    producers
}

fn go_on(host: &Host, log_end: i64) {
    // A trailer of a later version is refused.
    let Ok((dir, log)) = host.open_log() else { return };
    assert_eq!(log.log_end_offset().0, log_end, "{}", log.recovery());
    let (batches, error) = stored(&log);
    assert_eq!(error, None);
    let producers = remembered(&log);
    drop((dir, log));

    let (dir, log) = host.open_log().expect("what opened once opens again");
    assert_eq!(remembered(&log), producers, "opening twice changes nothing: {}", log.recovery());
    for producer in producers.iter().take(4) {
        let next = producer.batches.last().map_or(0, |last| last.last_sequence.plus(1).0);
        for (epoch, sequence) in [(producer.epoch.0, next), (producer.epoch.0.saturating_add(1), 0)] {
            if epoch >= 0 {
                let _ = log.append(&batch(producer.producer_id.0, epoch, sequence, 1, 3));
            }
        }
    }
    let (kept, now) = (stored(&log), remembered(&log));
    assert_eq!(kept.0[..batches.len()], batches[..]);
    dir.close().expect("a sound log closes");
    drop((dir, log));

    let (_dir, log) = host.open_log().expect("what was closed opens");
    assert_eq!(stored(&log), kept);
    assert_eq!(remembered(&log), now, "after a close: {}", log.recovery());
}
