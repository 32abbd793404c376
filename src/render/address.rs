//! Addresses of an App, as Fly shows them.

use std::net::IpAddr;

use serde::Deserialize;

use crate::tunnel::observed::Address;

/// An assignment. Fly gives no type: it follows from the flags and the address.
#[derive(Clone, Debug, Deserialize)]
pub struct Assignment {
    pub ip: IpAddr,
    #[serde(default)]
    pub shared: bool,
    #[serde(default)]
    pub egress: bool,
    #[serde(default)]
    pub created_at: String,
}

/// The address as a plan wants it. Only a dedicated one takes any TCP port.
pub fn observed(wire: Assignment) -> Address {
    let dedicated = !wire.shared && !wire.egress;
    Address { ip: wire.ip, dedicated, created_at: wire.created_at }
}
