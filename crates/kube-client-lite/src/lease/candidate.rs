//! Sends what the election wants to send.

use std::time::Duration;

use super::election::{Election, Move, Now, Timings, Write};
use super::leadership::Leadership;
use super::record::Lease;
use crate::{Client, Error, Resource};

/// Somebody else was faster: a second try, and the rest is another round's.
const WRITES_PER_ROUND: usize = 2;

/// A process that wants to lead. One thread runs its rounds; all others ask its [`Leadership`].
#[derive(Debug)]
pub struct Candidate {
    client: Client,
    namespace: String,
    name: String,
    election: Election,
    leadership: Leadership,
}

/// What a round came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Leading,
    /// Somebody else leads, or may for all we know.
    Following {
        /// `""` where others were faster, and it is not known yet who.
        holder: String,
        /// It was seen to take or renew the Lease. Where it was not, it may have ended long ago.
        alive: bool,
    },
}

impl Candidate {
    /// A candidate for the Lease of that name. Nothing is sent yet. The rights `get`, `create` and `update` on `leases` are
    /// needed. Its requests should take no longer than a part of the renew deadline ([`Client::with_timeout`]).
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, timings: Timings) -> Candidate {
        Candidate {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            election: Election::new(name, identity, timings),
            leadership: Leadership::new(),
        }
    }

    /// The handle for everybody else.
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Reads, renews or takes the Lease; to be called every retry period.
    ///
    /// # Errors
    /// The API server cannot be asked. Leadership lasts until the renew deadline all the same.
    /// [`Error::is_not_found`] where the namespace does not exist.
    pub fn round(&mut self) -> Result<Standing, Error> {
        let done = self.play();
        let standing = self.standing();
        done.map(|()| standing)
    }

    fn play(&mut self) -> Result<(), Error> {
        let mut next = self.election.first(Now::read());
        for _ in 0..WRITES_PER_ROUND {
            if next == Move::Read {
                let found = self.read()?;
                next = self.election.read(found, Now::read());
            }
            let Move::Write(write) = next else { break };
            let sent = Now::read();
            match self.send(&write) {
                Ok(lease) => {
                    self.election.wrote(lease, sent, Now::read());
                    break;
                }
                Err(error) if error.is_conflict() || error.is_already_exists() => next = Move::Read,
                // It was deleted: to be made again.
                Err(error) if error.is_not_found() && matches!(write, Write::Replace(_)) => next = Move::Read,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// When the Lease that another holds can be taken, if he does not renew it: no need to look much later than that.
    pub fn expires_in(&self) -> Option<Duration> {
        self.election.expires_in(Now::read())
    }

    /// Ends the leadership, and tells the others that they need not wait.
    ///
    /// # Errors
    /// They wait for the lease's duration.
    pub fn release(&mut self) -> Result<(), Error> {
        self.leadership.end();
        for _ in 0..WRITES_PER_ROUND {
            let Some(write) = self.election.release(Now::read()) else { break };
            match self.send(&write) {
                Ok(lease) => {
                    let now = Now::read();
                    self.election.wrote(lease, now, now);
                }
                // It is another's by now, or a renewal arrived whose reply did not.
                Err(error) if error.is_conflict() => {
                    let found = self.read()?;
                    self.election.read(found, Now::read());
                }
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes notice of what the round came to.
    fn standing(&self) -> Standing {
        let leads = self.election.is_leading(Now::read());
        match self.election.leads_from().filter(|_| leads) {
            Some((from, duration)) => {
                self.leadership.renew(from, duration);
                Standing::Leading
            }
            None => {
                self.leadership.end();
                Standing::Following { holder: self.election.holder().to_owned(), alive: self.election.rival_is_alive() }
            }
        }
    }

    fn read(&self) -> Result<Option<Lease>, Error> {
        match self.client.get(&Resource::LEASES.named(&self.namespace, &self.name)) {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn send(&self, write: &Write) -> Result<Lease, Error> {
        match write {
            Write::Create(lease) => self.client.create(&Resource::LEASES.in_namespace(&self.namespace), lease),
            Write::Replace(lease) => self.client.replace(&Resource::LEASES.named(&self.namespace, &self.name), lease),
        }
    }
}
