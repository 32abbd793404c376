//! The chart as its users have it: installed by the real helm on the real API server, where the operator is the chart's pod
//! and the namespace enforces the `restricted` Pod Security level.

mod install;
mod reader;
mod uninstall;
mod upgrade;
