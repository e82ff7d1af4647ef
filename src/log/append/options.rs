//! What a host can choose for one append.

use crate::log::Durability;
use crate::producer::VerificationGuard;
use crate::transaction::TransactionVersion;
use crate::types::LeaderEpoch;

/// On whose behalf batches are appended, and so by which rules.
///
/// ```
/// use idemlog::Origin;
///
/// assert_eq!(Origin::default(), Origin::Client);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A client's: all rules hold, duplicates are answered.
    #[default]
    Client,
    /// The host's own, as a coordinator of transactions or groups: transaction markers, and data without sequences. Only
    /// epochs are judged.
    Coordinator,
    /// Copied from the partition's leader: offsets, leader epochs and timestamps stay as they are, and nothing is refused
    /// for its producer. Offsets must rise and may leave gaps; leader epochs must not fall.
    Replication,
}

/// Choices for one append.
///
/// ```
/// use idemlog::{AppendOptions, Durability};
///
/// let options = AppendOptions::default().durability(Durability::Buffered);
/// assert_eq!(options.durability, Some(Durability::Buffered));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppendOptions {
    /// What this append survives once it is acknowledged. Default: as the log.
    ///
    /// A `Buffered` append to a log that is `Synced` waits for no sync, and readers see it behind the next one, for which a
    /// background thread is asked.
    pub durability: Option<Durability>,
    /// The leader epoch to stamp, in which the host took the batches. One that is over is refused
    /// ([`Error::StaleLeaderEpoch`](crate::Error::StaleLeaderEpoch)): it is below the log's
    /// [`leader_epoch`](crate::Log::leader_epoch), or below that of a batch. Default: the higher of these two. Replicated
    /// batches keep their own.
    pub leader_epoch: Option<LeaderEpoch>,
    /// On whose behalf. Default: a client's.
    pub origin: Origin,
    /// What [`Log::begin_verification`](crate::Log::begin_verification) returned, before the coordinator confirmed the
    /// batch's transaction.
    pub verification: Option<VerificationGuard>,
    /// How a coordinator's marker tells what it ends. Default: [`TransactionVersion::V1`]. Of other batches it says nothing.
    pub transaction_version: TransactionVersion,
}

impl AppendOptions {
    /// Whether batches are judged and stamped as those of most appends are.
    #[inline]
    pub(super) fn are_plain(self) -> bool {
        self.origin == Origin::Client && self.leader_epoch.is_none()
    }

    /// Sets [`durability`](Self#structfield.durability).
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Sets [`leader_epoch`](Self#structfield.leader_epoch).
    #[must_use]
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.leader_epoch = Some(epoch);
        self
    }

    /// Sets [`origin`](Self#structfield.origin).
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Sets [`verification`](Self#structfield.verification).
    #[must_use]
    pub fn verification(mut self, guard: VerificationGuard) -> Self {
        self.verification = Some(guard);
        self
    }

    /// Sets [`transaction_version`](Self#structfield.transaction_version).
    #[must_use]
    pub fn transaction_version(mut self, version: TransactionVersion) -> Self {
        self.transaction_version = version;
        self
    }
}
