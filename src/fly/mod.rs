//! Fly's Machines API, as far as a tunnel needs it. Facts: docs.machines.dev, superfly/fly-go.
//!
//! [`Fly`] is all that the operator asks of Fly; [`client::Client`] asks the real one.

pub mod client;
pub mod error;
mod http;
pub mod token;

use std::net::IpAddr;

use serde::Deserialize;

use crate::render::address::Assignment;
use crate::render::machine::wire::{ListedMachine, Machine, NewMachine};
use crate::tunnel::observed::Family;
use error::FlyError;

/// An App, as far as we read it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct App {
    pub name: String,
    /// Absent or empty where Fly gives none; `default` for an App without a network of its own.
    pub network: Option<String>,
    pub organization: Organization,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Organization {
    pub slug: String,
}

/// The Machines of an organisation.
#[derive(Debug, Default)]
pub struct ListedMachines {
    pub machines: Vec<ListedMachine>,
    /// Fly could ask each of its regions. Otherwise Machines may be there that are not in the list.
    pub complete: bool,
}

/// One organisation's Apps at Fly. Every request may fail with any [`error::ErrorKind`]; each method names those that mean
/// something of their own.
pub trait Fly: Send + Sync {
    /// The organisation whose Apps these are.
    fn org(&self) -> &str;

    /// The App of that name.
    ///
    /// # Errors
    /// `NotFound`: absent, or made a moment ago. `Forbidden`: of another organisation.
    fn app(&self, name: &str) -> Result<App, FlyError>;

    /// Makes an App with a private network of its own.
    ///
    /// # Errors
    /// `NameTaken`: names are unique in all of Fly, and one may be taken by our own App that is not shown yet.
    fn create_app(&self, name: &str, network: &str) -> Result<(), FlyError>;

    /// Asks Fly to delete the App and all in it; it is gone some time later.
    ///
    /// # Errors
    /// `NotFound`: absent, or made a moment ago.
    fn delete_app(&self, name: &str) -> Result<(), FlyError>;

    /// The organisation's Apps.
    ///
    /// # Errors
    /// Any.
    fn apps(&self) -> Result<Vec<App>, FlyError>;

    /// The Machines of all Apps of the organisation.
    ///
    /// # Errors
    /// Any.
    fn machines_of_all_apps(&self) -> Result<ListedMachines, FlyError>;

    /// Whether the organisation's list has an App of that name.
    ///
    /// # Errors
    /// Those of [`Fly::apps`].
    fn lists_app(&self, name: &str) -> Result<bool, FlyError> {
        Ok(self.apps()?.iter().any(|app| app.name == name))
    }

    /// All addresses of the App.
    ///
    /// # Errors
    /// `NotFound`: the App is absent, or made a moment ago.
    fn addresses(&self, app: &str) -> Result<Vec<Assignment>, FlyError>;

    /// Asks for a dedicated address. Each call that succeeds is another address and, for IPv4, another bill.
    ///
    /// # Errors
    /// `Unavailable` may mean that it was given: list before asking again.
    fn allocate(&self, app: &str, family: Family) -> Result<Assignment, FlyError>;

    /// Gives the address back; one that is not there any more is a success.
    ///
    /// # Errors
    /// Any but `NotFound`.
    fn release(&self, app: &str, ip: IpAddr) -> Result<(), FlyError>;

    /// All Machines of the App but destroyed ones.
    ///
    /// # Errors
    /// `NotFound`: the App is absent, or made a moment ago.
    fn machines(&self, app: &str) -> Result<Vec<Machine>, FlyError>;

    /// One Machine; a destroyed one says so.
    ///
    /// # Errors
    /// `NotFound`: it never was, or was made a moment ago.
    fn machine(&self, app: &str, id: &str) -> Result<Machine, FlyError>;

    /// Makes a Machine and starts it.
    ///
    /// # Errors
    /// `MachineExists`: one of that name is there, perhaps by a request whose reply was lost. `NotFound`: the App was
    /// made a moment ago.
    fn create_machine(&self, app: &str, machine: &NewMachine) -> Result<Machine, FlyError>;

    /// Starts a stopped Machine.
    ///
    /// # Errors
    /// `Refused`: it is in a state that it cannot be started from.
    fn start_machine(&self, app: &str, id: &str) -> Result<(), FlyError>;

    /// Takes the Machine out of routing for new connections, control port and all; established ones live on.
    ///
    /// # Errors
    /// Any.
    fn cordon(&self, app: &str, id: &str) -> Result<(), FlyError>;

    /// Undoes [`Fly::cordon`].
    ///
    /// # Errors
    /// Any.
    fn uncordon(&self, app: &str, id: &str) -> Result<(), FlyError>;

    /// Stops and destroys the Machine; one that is not there any more is a success.
    ///
    /// # Errors
    /// Any but `NotFound`.
    fn destroy_machine(&self, app: &str, id: &str) -> Result<(), FlyError>;

    /// Sets one key of a Machine's metadata, without a new version of the Machine.
    ///
    /// # Errors
    /// Any.
    fn set_metadata(&self, app: &str, id: &str, key: &str, value: &str) -> Result<(), FlyError>;

    /// Takes one key out of a Machine's metadata; one that is not there any more is a success.
    ///
    /// # Errors
    /// Any but `NotFound`.
    fn delete_metadata(&self, app: &str, id: &str, key: &str) -> Result<(), FlyError>;
}
