//! Sends what the election wants to send.

use std::time::Duration;

use super::election::{Election, Move, Now, Timings, Write};
use super::leadership::Leadership;
use super::record::Lease;
use crate::{Client, Error, Resource};

/// Somebody else was faster: a second try, and the rest is another round's.
const WRITES_PER_ROUND: usize = 2;

/// A leader renews now and then; nobody writes a Lease so often in a row.
const SEIZURES: usize = 10;

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
    /// The Lease was seized, and whoever held it may still believe that it leads, for no longer than this.
    Seized(Duration),
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

    /// Who holds the Lease, as it was seen last; `""`: nobody.
    pub fn holder(&self) -> &str {
        self.election.holder()
    }

    /// When the Lease that another holds can be taken, if he does not renew it: no need to look much later than that.
    pub fn expires_in(&self) -> Option<Duration> {
        self.election.expires_in(Now::read())
    }

    /// Takes the Lease whoever holds it; to be called until it succeeds, and [`Self::round`] every retry period from then on. This
    /// process leads once whoever held the Lease must have noticed.
    ///
    /// # Errors
    /// The API server cannot be asked, or somebody else was faster each time.
    pub fn seize(&mut self) -> Result<Standing, Error> {
        let mut tries = 0;
        loop {
            let write = self.election.seize(self.read()?, Now::read());
            let sent = Now::read();
            match self.send(&write) {
                Ok(lease) => {
                    self.election.wrote(lease, sent, Now::read());
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
    /// They wait for the lease's duration.
    pub fn release(&mut self) -> Result<(), Error> {
        self.leave(Election::release).map(|_| ())
    }

    /// Ends the leadership for good: none of those who wait for the Lease now gets it, however long they wait. A process that
    /// first looks at it afterwards does, after its own lease duration. Returns whether the Lease was still ours.
    ///
    /// # Errors
    /// The others wait no longer than for the lease's duration.
    pub fn retire(&mut self) -> Result<bool, Error> {
        self.leave(Election::retire)
    }

    /// Whether who held the Lease last keeps it from this candidate for good ([`Self::retire`]).
    pub fn is_retired(&self) -> bool {
        self.election.is_retired()
    }

    /// Writes the last word. Returns whether it was ours to say.
    fn leave(&mut self, last: impl Fn(&mut Election, Now) -> Option<Write>) -> Result<bool, Error> {
        self.leadership.end();
        for _ in 0..WRITES_PER_ROUND {
            let Some(write) = last(&mut self.election, Now::read()) else { break };
            match self.send(&write) {
                Ok(lease) => {
                    let now = Now::read();
                    self.election.wrote(lease, now, now);
                    return Ok(true);
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
        Ok(false)
    }

    /// Takes notice of what the round came to.
    fn standing(&self) -> Standing {
        let now = Now::read();
        if let Some((from, duration)) = self.election.leads_from(now) {
            self.leadership.renew(from, duration);
            return Standing::Leading;
        }
        self.leadership.end();
        match self.election.outlived_in(now) {
            Some(left) if self.election.holds(now) => Standing::Seized(left),
            _ => {
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
