//! The text of a log directory's own files: offsets per partition, and the marker of a clean shutdown. Pure.
//!
//! Recovery points, log start offsets and high watermarks are [checkpoints](crate::checkpoint) with a line per
//! partition, `<topic> <partition> <offset>`.
//!
//! Source: `OffsetCheckpointFile` and `CleanShutdownFileHandler` of Apache Kafka.

use std::collections::BTreeMap;

use crate::checkpoint;
use crate::error::CorruptionKind;
use crate::fs::name::TopicPartition;
use crate::types::Offset;

/// An offset of each partition of a log directory.
pub(crate) type OffsetsByPartition = BTreeMap<TopicPartition, Offset>;

/// The text of an offset checkpoint.
pub(crate) fn encode_offsets(offsets: &OffsetsByPartition) -> String {
    checkpoint::encode(
        offsets.iter().map(|(name, offset)| format!("{} {} {offset}", name.topic(), name.partition())),
    )
}

/// The offsets in a checkpoint's text.
///
/// # Errors
///
/// [`CorruptionKind`] if it is no checkpoint, a line is not a topic, a partition and an offset from 0 up, or a
/// partition comes twice.
pub(crate) fn decode_offsets(text: &str) -> Result<OffsetsByPartition, CorruptionKind> {
    let mut offsets = OffsetsByPartition::new();
    for line in checkpoint::decode(text)? {
        let (partition, offset) = decode_line(line)?;
        if offsets.insert(partition, offset).is_some() {
            return Err(CorruptionKind::Format("a checkpoint has two offsets for a partition"));
        }
    }
    Ok(offsets)
}

fn decode_line(line: &str) -> Result<(TopicPartition, Offset), CorruptionKind> {
    const PROBLEM: &str = "a line of a checkpoint is not a topic, a partition and an offset";
    let mut fields = line.split_ascii_whitespace();
    let topic = fields.next().unwrap_or_default();
    let number = checkpoint::field(fields.next(), PROBLEM)?;
    let offset = checkpoint::field(fields.next(), PROBLEM)?;
    let partition = TopicPartition::new(topic, number).map_err(|_| CorruptionKind::Format(PROBLEM))?;
    if offset < 0 || fields.next().is_some() {
        return Err(CorruptionKind::Format(PROBLEM));
    }
    Ok((partition, Offset(offset)))
}

/// The bytes of the marker that is there while every partition is closed well. Only that it is there counts: older
/// releases of Kafka write an empty one. `broker_epoch` is for Kafka's eyes, -1 for none.
pub(crate) fn clean_shutdown(broker_epoch: i64) -> String {
    format!(r#"{{"version":0,"brokerEpoch":{broker_epoch}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_checkpoint_has_kafkas_text() {
        let text = "0\n3\n__consumer_offsets 49 9223372036854775807\na.b-c 0 0\norders 7 1500\n";
        let offsets = decode_offsets(text).unwrap();
        assert_eq!(offsets[&TopicPartition::new("orders", 7).unwrap()], Offset(1500));
        assert_eq!(encode_offsets(&offsets), text);
        assert_eq!(encode_offsets(&OffsetsByPartition::new()), "0\n0\n");
        assert_eq!(decode_offsets(""), Ok(OffsetsByPartition::new()));
    }

    #[test]
    fn a_line_that_names_no_partition_is_refused() {
        let lines = [
            "orders 7",
            "orders 7 1500 1",
            "orders -1 1500",
            "orders 7 -1",
            "orders seven 1500",
            "orders 7 9223372036854775808",
            "a/b 7 1500",
            ".. 7 1500",
            "",
        ];
        for line in lines {
            assert!(decode_offsets(&format!("0\n1\n{line}\n")).is_err(), "{line:?}");
        }
        assert!(decode_offsets("0\n2\norders 7 1500\norders 7 1501\n").is_err());
    }

    #[test]
    fn the_clean_shutdown_marker_is_kafkas_json() {
        assert_eq!(clean_shutdown(-1), r#"{"version":0,"brokerEpoch":-1}"#);
    }
}
