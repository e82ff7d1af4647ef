//! The chapters behind the reference.
