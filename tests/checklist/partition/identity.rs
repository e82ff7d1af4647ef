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

// A host that passed on the id of a client that knew none, 16 zeros, had it noted durably, and no later opening took the file.
#[test]
fn no_partition_is_made_for_the_id_that_stands_for_none() {
    for mut log in partitions() {
        for partition in [0, 1] {
            let refused = log.dir().partition_of(TopicId::ZERO, "t", partition);
            assert!(matches!(refused, Err(Error::UnknownTopicId)), "{refused:?}");
        }
        assert_eq!(log.dir().find("t", 1).unwrap().map(|_| ()), None);
        log.die_and_open();
        assert_eq!(log.topic_id(), None);
        assert!(log.dir().failed().is_empty());
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
