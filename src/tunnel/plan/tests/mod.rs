//! The plan, tried in a pure world by the thousand.

mod chaos;
mod drift;
mod lanes;
mod reality;
mod stories;
