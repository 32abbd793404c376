//! The lab's own tests: one binary, so that all of them share one control plane. A module a subject.

mod cluster;
mod pods;
mod processes;
mod services;
mod support;
