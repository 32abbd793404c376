//! Tests of the client against servers that behave well, and against servers that do not.

mod environment;
mod kubeconfig;
mod lists;
mod logs;
mod plugins;
mod properties;
mod readme;
mod replies;
mod requests;
mod server;
mod setup;
mod tls;
mod tokens;
