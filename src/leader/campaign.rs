//! How a process comes to lead before its work begins: `--once` takes the Lease or learns who has it, `--drain` takes it from
//! whoever has it.

use std::thread;

use kube_client_lite::lease::{Candidate, Standing};

use super::Elector;
use super::told::whole_seconds;
use crate::cluster::find::NotBegun;

impl Elector {
    /// Waits until this process leads, or somebody else shows that it does.
    ///
    /// # Errors
    /// The reason why it does not lead.
    pub fn win(&mut self, tries: u32) -> Result<(), NotBegun> {
        loop {
            match self.round() {
                Ok(Standing::Leading) => return Ok(()),
                Ok(Standing::Following { holder, alive: true }) => {
                    return Err(NotBegun(format!("{holder} leads")));
                }
                Err(error) if self.failures.count() >= tries => {
                    return Err(NotBegun(format!("the Lease cannot be taken: {error}")));
                }
                Ok(Standing::Following { .. } | Standing::Seized(_)) | Err(_) => {}
            }
            thread::sleep(self.standby_pause());
        }
    }

    /// Takes the Lease whoever holds it, and waits until that holder must have stopped.
    ///
    /// # Errors
    /// The reason why it does not lead.
    pub fn seize(&mut self, tries: u32) -> Result<(), NotBegun> {
        let mut said = false;
        let mut standing = self.ask(Candidate::seize);
        loop {
            let pause = match standing {
                Ok(Standing::Leading) => return Ok(()),
                Ok(Standing::Seized(left)) => {
                    self.failures.succeeded();
                    if !std::mem::replace(&mut said, true) {
                        let left = humantime::format_duration(whole_seconds(left));
                        let identity = &self.identity;
                        log::info!(
                            "the Lease is ours, as {identity}: waiting {left} until whoever led before must have stopped"
                        );
                    }
                    left.min(self.timings.retry_period)
                }
                Ok(Standing::Following { holder, .. }) => {
                    return Err(NotBegun(format!(
                        "the Lease was taken, and then lost to {holder}: another drain, or an operator that was started meanwhile. Wait \
                         for that drain, or end that operator, and drain again"
                    )));
                }
                Err(error) => {
                    let (delay, _) = self.failures.failed(&error.to_string());
                    if self.failures.count() >= tries {
                        return Err(NotBegun(format!("the Lease cannot be taken: {error}")));
                    }
                    delay.min(self.timings.retry_period)
                }
            };
            thread::sleep(pause);
            let ours = self.candidate.holder() == self.identity;
            standing = self.ask(if ours { Candidate::round } else { Candidate::seize });
        }
    }
}
