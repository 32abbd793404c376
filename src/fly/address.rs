//! Addresses of an App.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::Fly;
use super::error::FlyError;

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

impl Assignment {
    /// A dedicated IPv4: the one kind that takes any TCP port, and that is billed.
    pub fn is_dedicated_v4(&self) -> bool {
        self.ip.is_ipv4() && !self.shared && !self.egress
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Assignments {
    ips: Vec<Assignment>,
}

#[derive(Serialize)]
struct Allocate {
    r#type: &'static str,
}

impl Fly {
    /// All addresses of the App.
    ///
    /// # Errors
    /// `NotFound`: the App is absent, or made a moment ago.
    pub fn addresses(&self, app: &str) -> Result<Vec<Assignment>, FlyError> {
        let list: Assignments = self.get("list_addresses", &format!("/apps/{app}/ip_assignments"))?;
        Ok(list.ips)
    }

    /// Asks for a dedicated IPv4. Each call that succeeds is another address and another bill.
    ///
    /// # Errors
    /// `Unavailable` may mean that it was given: list before asking again.
    pub fn allocate_v4(&self, app: &str) -> Result<Assignment, FlyError> {
        self.post("allocate_address", &format!("/apps/{app}/ip_assignments"), &Allocate { r#type: "v4" })
    }

    /// Gives the address back; one that is not there any more is a success.
    ///
    /// # Errors
    /// Any but `NotFound`.
    pub fn release(&self, app: &str, ip: IpAddr) -> Result<(), FlyError> {
        match self.call("release_address", Method::DELETE, &format!("/apps/{app}/ip_assignments/{ip}"), Vec::new()) {
            Err(FlyError::NotFound) => Ok(()),
            other => other,
        }
    }
}
