//! What the fuzz targets do with their input. A target is one call of a function here; a finding is a panic.

pub mod batch;
pub mod decision;
pub mod directory;
pub mod files;
pub mod follower;
pub mod sim;
pub mod snapshot;
pub mod template;
pub mod txn;
pub mod txn_model;
pub mod workload;
