//! The topics: which partitions each has, and their logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use idemlog::{Error, ErrorCode, Log, LogDir, Result, TopicPartition};
use parking_lot::{Mutex, RwLock};

/// How many partitions a topic may have.
pub(crate) const MAX_PARTITIONS: i32 = 1_000;

/// The topic of the transaction coordinator's states. Clients do not see it.
pub(crate) const TRANSACTION_STATE: &str = "__transaction_state";

/// The partitions of a topic by number: the log, or why it did not open.
pub(crate) type Topic = Arc<BTreeMap<i32, Result<Log>>>;

/// All topics. A look-up waits for no disk, also while topics are created and deleted.
pub(crate) struct Topics {
    dir: LogDir,
    partitions: i32,
    known: RwLock<BTreeMap<String, Topic>>,
    /// Held while a topic is created or deleted.
    changing: Mutex<()>,
}

impl Topics {
    /// The topics in `dir`. A new one gets so many `partitions`, unless its creator says otherwise.
    pub(crate) fn new(dir: LogDir, partitions: i32) -> Self {
        let mut known: BTreeMap<String, BTreeMap<i32, Result<Log>>> = BTreeMap::new();
        let open =
            dir.partitions().into_iter().map(|name| (dir.partition(name.topic(), name.partition()), name));
        let failed = dir.failed().into_iter().map(|(name, error)| (Err(error), name));
        for (log, name) in open.chain(failed).filter(|(_, name)| name.topic() != TRANSACTION_STATE) {
            known.entry(name.topic().to_owned()).or_default().insert(name.partition(), log);
        }
        let known = known.into_iter().map(|(name, topic)| (name, Arc::new(topic))).collect();
        Self { dir, partitions, known: RwLock::new(known), changing: Mutex::default() }
    }

    pub(crate) fn all(&self) -> Vec<(String, Topic)> {
        self.known.read().iter().map(|(name, topic)| (name.clone(), Arc::clone(topic))).collect()
    }

    pub(crate) fn find(&self, topic: &str) -> Option<Topic> {
        self.known.read().get(topic).cloned()
    }

    /// The log of a partition, or the protocol error to answer with.
    pub(crate) fn log(&self, topic: &str, partition: i32) -> Result<Log, ErrorCode> {
        match self.find(topic).as_deref().and_then(|topic| topic.get(&partition)) {
            None => Err(ErrorCode::UnknownTopicOrPartition),
            Some(Ok(log)) => Ok(log.clone()),
            Some(Err(error)) => Err(error.code()),
        }
    }

    /// How many partitions a topic gets whose creator does not say.
    pub(crate) fn default_partitions(&self) -> i32 {
        self.partitions
    }

    /// Creates a topic, unless there is one. Blocks.
    pub(crate) fn create(&self, name: &str, partitions: i32) -> Result<Topic> {
        Self::check_name(name)?;
        let _turn = self.changing.lock();
        if let Some(topic) = self.find(name) {
            return Ok(topic);
        }
        let logs = (0..partitions).map(|partition| Ok((partition, Ok(self.dir.partition(name, partition)?))));
        let topic = Topic::new(logs.collect::<Result<_>>()?);
        self.known.write().insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    /// Deletes a topic; `false` if there is none. One with a partition that did not open stays as it is. Blocks.
    pub(crate) fn delete(&self, name: &str) -> Result<bool> {
        let _turn = self.changing.lock();
        let Some(topic) = self.find(name) else { return Ok(false) };
        if let Some(error) = topic.values().find_map(|log| log.as_ref().err()) {
            return Err(error.clone());
        }
        // The highest first: a crash in between leaves a topic without holes.
        for partition in topic.keys().rev() {
            self.dir.delete_partition(name, *partition)?;
        }
        self.known.write().remove(name);
        Ok(true)
    }

    /// Checks a topic's name.
    pub(crate) fn check_name(name: &str) -> Result<(), Error> {
        if name == TRANSACTION_STATE {
            let expected = "a name that the broker does not use itself";
            return Err(Error::InvalidTopic { topic: name.to_owned(), expected });
        }
        TopicPartition::new(name, 0).map(|_| ())
    }
}
