//! What of a client may be set.

use std::time::Duration;

/// What may be set otherwise than [`crate::Client::new`] does.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `name/version`, as the server's audit log will show it.
    pub user_agent: String,
    /// For a connection, TLS included. 5 s.
    pub connect_timeout: Duration,
    /// For a whole request: credential plugin, connection, sending, waiting, reading. Each page of a list is one. 30 s.
    pub timeout: Duration,
    /// How many idle connections are kept. 4. More requests than that at once are possible.
    pub idle_connections: usize,
}

impl ClientOptions {
    /// The defaults, with a user agent.
    pub fn new(user_agent: &str) -> ClientOptions {
        ClientOptions {
            user_agent: user_agent.to_owned(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            idle_connections: 4,
        }
    }
}
