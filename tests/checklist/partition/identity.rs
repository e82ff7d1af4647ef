//! To which topic a partition belongs.

use idemlog::{Error, TopicId};

use crate::fixture::{Partition, partitions, plain};

const OURS: TopicId = TopicId([7; 16]);
const OTHER: TopicId = TopicId([8; 16]);

/// C testLogRecoversTopicId
#[test]
fn a_topic_id_is_known_again_after_an_opening() {
    for mut log in partitions() {
        assert_eq!(log.topic_id(), None);
        log.dir().partition_of(OURS, "t", 0).unwrap();
        for again in [Partition::close_and_open, Partition::die_and_open, Partition::lose_power_and_open] {
            again(&mut log);
            assert_eq!(log.topic_id(), Some(OURS));
            log.dir().partition_of(OURS, "t", 0).unwrap();
        }
    }
}

/// C testLogFailsWhenInconsistentTopicIdSet
#[test]
fn a_partition_of_another_topic_of_the_same_name_is_refused() {
    for mut log in partitions() {
        log.dir().partition_of(OURS, "t", 0).unwrap();
        for _ in 0..2 {
            let refused = log.dir().partition_of(OTHER, "t", 0);
            let Err(Error::TopicId { expected, got, .. }) = refused else { panic!("{refused:?}") };
            assert_eq!((expected, got), (OTHER, OURS));
            assert_eq!(log.topic_id(), Some(OURS));
            log.die_and_open();
        }
    }
}

/// C testLogFlushesPartitionMetadataOnAppend, testLogFlushesPartitionMetadataOnClose. (Here it is durable at once.)
#[test]
fn a_topic_id_is_durable_before_the_first_append() {
    for mut log in partitions() {
        log.dir().partition_of(OURS, "t", 0).unwrap();
        let file = String::from_utf8(log.get("partition.metadata")).unwrap();
        assert_eq!(file, format!("version: 0\ntopic_id: {OURS}"));
        log.lose_power_and_open();
        assert_eq!(log.topic_id(), Some(OURS));
        log.send(plain());
    }
}
