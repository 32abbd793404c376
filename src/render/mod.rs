//! What things look like on the wire: a lane becomes a Machine, frp's two configurations, and objects in the cluster.
//! Pure. A port travels Service → Tunnel → here, and appears nowhere else.

pub mod frpc;
pub mod frps;
pub mod keys;
pub mod machine;
pub mod objects;
pub mod status;
#[cfg(test)]
mod tests;

/// Serialises an frp configuration.
fn toml(configuration: &impl serde::Serialize) -> String {
    toml::to_string(configuration).expect("structs of strings, numbers, lists and tables always serialise")
}

/// What frps and frpc have to agree on (measured with frp 0.61.1: without the multiplexer a client that stops reading
/// costs frps some 300 KiB, with it 6 MiB).
mod agreed {
    /// Ready connections of each frpc, so that a user does not wait for one to be dialled; and what users that still
    /// arrive at a cordoned lane live on.
    pub const POOL: u32 = 50;
    /// Seconds. On by default only with the multiplexer; must be set on both sides or on none.
    pub const HEARTBEAT_INTERVAL: u32 = 10;
    pub const HEARTBEAT_TIMEOUT: u32 = 30;
    pub const KEEPALIVE: u32 = 30;
    /// A work connection shows the token too, instead of the run's ID alone.
    pub const SCOPES: [&str; 1] = ["NewWorkConns"];
    /// In frps' certificate, and what frpc expects there.
    pub const SERVER_NAME: &str = "frps";
}
