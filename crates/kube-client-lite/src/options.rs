//! Settings of a client.

use std::time::Duration;

/// Settings of a client. [`ClientOptions::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `name/version`, as it stands in the server's audit log.
    pub user_agent: String,
    /// The time for a whole request: credential plugin, connection, sending, waiting, reading. Each page of a list is one
    /// request. 30 s.
    pub timeout: Duration,
    /// So many idle connections are kept. More requests at once than that are possible. 4.
    pub idle_connections: usize,
}

impl ClientOptions {
    /// The defaults, with a user agent.
    pub fn new(user_agent: &str) -> ClientOptions {
        ClientOptions { user_agent: user_agent.to_owned(), timeout: Duration::from_secs(30), idle_connections: 4 }
    }
}
