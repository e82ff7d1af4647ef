//! Where idemlog is meant to differ from Kafka, and nowhere else: one flag each.

macro_rules! differences {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Which of the meant differences the model makes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Differences {
            $($(#[doc = $doc])* pub $name: bool,)*
        }

        impl Differences {
            /// The model of Kafka.
            pub const NONE: Self = Self { $($name: false,)* };
            /// The model of idemlog.
            pub const ALL: Self = Self { $($name: true,)* };

            /// Every difference by name, with the flags without it.
            pub fn each_left_out() -> Vec<(&'static str, Self)> {
                vec![$((stringify!($name), Self { $name: false, ..Self::ALL }),)*]
            }

            /// Every difference by name, with the flags for it alone.
            pub fn each_alone() -> Vec<(&'static str, Self)> {
                vec![$((stringify!($name), Self { $name: true, ..Self::NONE }),)*]
            }
        }
    };
}

differences! {
    /// A refused or duplicate append never creates a segment, a snapshot or a leader epoch entry. Kafka rolls and notes
    /// the epoch first.
    judge_before_roll,
    /// The sequences of a window rise: a batch in the log that begins no higher tells that its producer had been forgotten,
    /// and begins the window anew. Kafka keeps the batches of before, and answers for what comes under their sequences.
    window_rises,
    /// The whole window of each producer survives a reopen and a truncation. Kafka's snapshot has the last batch.
    window_survives,
    /// A producer's state survives the loss of its records, and an opening without snapshots reads the log. Kafka drops
    /// the snapshots below the log start, and takes a clean log without snapshots for one without producers.
    state_outlives_records,
    /// Opening does not fail because of what the log holds.
    open_never_fails,
    /// Nothing is thrown away and no hole is made: a missing index does not lead to a cut, and below the recovery point
    /// only headers are read.
    nothing_thrown_away,
    /// The end of the log is verified even when it is marked clean.
    clean_marker_is_checked,
    /// A batch in a snapshot keeps its own timestamp. Kafka's has the producer's last one.
    true_timestamps,
    /// A segment's largest timestamp is that of its batches. Kafka believes the time index.
    largest_timestamp_of_batches,
    /// A missing or wrong transaction index is rebuilt.
    transaction_index_is_rebuilt,
    /// An older-epoch batch found in the log counts for offsets and transactions, and leaves its producer alone.
    replay_never_lowers_epochs,
    /// Expiry does not depend on where a snapshot lies: reading a snapshot or the log expires nobody, and a snapshot holds
    /// what the log shows up to it, but for those who were forgotten when it was written. Kafka drops the expired when
    /// it reads a snapshot and keeps the same ones when it replays their batches.
    expiry_ignores_snapshots,
    /// An open transaction survives like its producer, so the last stable offset may be lower.
    open_transaction_survives,
}
