//! The client against a server that behaves, and one that does not.

mod environment;
mod kubeconfig;
mod lists;
mod logs;
mod plugins;
mod properties;
mod replies;
mod requests;
mod server;
mod setup;
mod tls;
mod tokens;
