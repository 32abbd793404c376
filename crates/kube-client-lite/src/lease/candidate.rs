//! A candidate sends what its election wants to have sent.

use std::time::Duration;

use super::clock::Now;
use super::election::{Election, Move, Timings, Write};
use super::leadership::Leadership;
use super::record::Lease;
use super::takeover::Takeover;
use crate::{Client, Error, Resource};

/// Where somebody else was faster, a round tries once more. The next round does the rest.
const WRITES_PER_ROUND: usize = 2;

/// A seizure is tried so often where somebody else was faster. A leader renews now and then, but nobody writes a Lease so
/// often in a row.
const SEIZURES: usize = 10;

/// A process that wants to lead. One thread runs its rounds; all others ask its [`Leadership`].
#[derive(Debug)]
pub struct Candidate {
    client: Client,
    namespace: String,
    name: String,
    takeover: Takeover,
    leadership: Leadership,
}

/// The result of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This process leads.
    Leading,
    /// The Lease was seized. Whoever held it may still believe that it leads, for no longer than this.
    Seized(Duration),
    /// Somebody else leads, or may for all we know.
    Following {
        /// The identity in the Lease; `""` where others were faster, and it is not known yet who.
        holder: String,
        /// The holder was seen to take or renew the Lease. Otherwise it may have ended long ago.
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
            takeover: Takeover::new(Election::new(name, identity, timings)),
            leadership: Leadership::new(),
        }
    }

    /// The handle by which all other threads learn whether this process leads.
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
        let mut next = self.takeover.first(Now::read());
        for _ in 0..WRITES_PER_ROUND {
            if next == Move::Read {
                let found = self.read()?;
                next = self.takeover.read(found, Now::read());
            }
            let Move::Write(write) = next else { break };
            let sent = Now::read();
            match self.send(&write) {
                Ok(lease) => {
                    self.takeover.wrote(lease, sent, Now::read());
                    break;
                }
                Err(error) if error.is_conflict() || error.is_already_exists() => next = Move::Read,
                // Somebody deleted the Lease, so it has to be made again.
                Err(error) if error.is_not_found() && matches!(write, Write::Replace(_)) => next = Move::Read,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The holder of the Lease, as it was seen last; `""` where nobody held it.
    pub fn holder(&self) -> &str {
        self.takeover.election().holder()
    }

    /// The time until a Lease that somebody else holds can be taken, if nobody renews it. A candidate need not wait much
    /// longer than that before its next round.
    pub fn expires_in(&self) -> Option<Duration> {
        self.takeover.election().expires_in(Now::read())
    }

    /// Takes the Lease whoever holds it. This process leads once whoever held the Lease must have noticed. It is to be called
    /// until it succeeds, and [`Self::round`] every retry period from then on.
    ///
    /// # Errors
    /// The API server cannot be asked, or somebody else was faster each time.
    pub fn seize(&mut self) -> Result<Standing, Error> {
        let mut tries = 0;
        loop {
            let write = self.takeover.seize(self.read()?, Now::read());
            let sent = Now::read();
            match self.send(&write) {
                Ok(lease) => {
                    self.takeover.wrote(lease, sent, Now::read());
                    return Ok(self.standing());
                }
                Err(error) if error.is_conflict() || error.is_already_exists() || error.is_not_found() => {
                    tries += 1;
                    if tries >= SEIZURES {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the leadership, and tells the others that they need not wait.
    ///
    /// # Errors
    /// The Lease cannot be written: the others wait for the lease duration.
    pub fn release(&mut self) -> Result<(), Error> {
        self.leave(Takeover::release).map(|_| ())
    }

    /// Ends the leadership, and retires the Lease: a candidate that waits for it now never gets it. One that begins afterwards
    /// gets it after its own lease duration. Returns whether the Lease was still ours.
    ///
    /// # Errors
    /// The Lease cannot be written: the others wait for the lease duration, and no longer.
    pub fn retire(&mut self) -> Result<bool, Error> {
        self.leave(Takeover::retire)
    }

    /// Whether the Lease is retired ([`Self::retire`]), so that this candidate never gets it.
    pub fn is_retired(&self) -> bool {
        self.takeover.election().is_retired()
    }

    /// Ends the leadership, and writes the Lease for the last time. Returns whether the Lease was still ours.
    fn leave(&mut self, last: impl Fn(&mut Takeover, Now) -> Option<Write>) -> Result<bool, Error> {
        self.leadership.end();
        for _ in 0..WRITES_PER_ROUND {
            let Some(write) = last(&mut self.takeover, Now::read()) else { break };
            match self.send(&write) {
                Ok(lease) => {
                    let now = Now::read();
                    self.takeover.wrote(lease, now, now);
                    return Ok(true);
                }
                // Somebody else has it by now, or a renewal of ours arrived and its reply did not.
                Err(error) if error.is_conflict() => {
                    let found = self.read()?;
                    self.takeover.read(found, Now::read());
                }
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// The result of a round. All threads learn it by their [`Leadership`].
    fn standing(&self) -> Standing {
        let now = Now::read();
        if let Some((from, duration)) = self.takeover.leads_from(now) {
            self.leadership.renew(from, duration);
            return Standing::Leading;
        }
        self.leadership.end();
        let election = self.takeover.election();
        match self.takeover.outlived_in(now) {
            Some(left) if election.holds(now) => Standing::Seized(left),
            _ => Standing::Following { holder: election.holder().to_owned(), alive: election.rival_is_alive() },
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
