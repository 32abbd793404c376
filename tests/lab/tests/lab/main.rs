//! The lab's own tests, a module for each subject. They are one binary, so that all of them share one control plane.

mod cluster;
mod containers;
mod fly_apps;
mod fly_edge;
mod fly_lab;
mod fly_machines;
mod homelab;
mod pods;
mod processes;
mod recorder;
mod services;
mod support;
