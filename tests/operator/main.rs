//! Tests of the built operator as a whole: on a real control plane, with the real frp, a simulated Fly and real
//! traffic. Each subject has one file. All tests share one control plane, and each has a Fly, a log and namespaces of
//! its own.

mod api_server;
mod by_hand;
mod change;
mod chart;
mod crash;
mod creation;
mod deletion;
mod dependencies;
mod describe;
mod documents;
mod drain;
mod drift;
mod dry_run;
mod election;
mod events;
mod faults;
mod frpc;
mod health;
mod imports;
mod in_cluster;
mod kubeconfig;
mod lanes;
mod logs;
mod manners;
mod metrics;
mod neighbours;
mod node_drain;
mod policies;
mod refusal;
mod release;
mod rights;
mod secrets;
mod settings;
mod shutdown;
mod strangers;
mod support;
mod sweep;
mod traffic;
mod versions;
