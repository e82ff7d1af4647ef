//! Checklist B, `LogLoaderTest`: what an opening finds, rebuilds, cuts and keeps.

mod damage;
mod ends;
mod indexes;
mod producers;
