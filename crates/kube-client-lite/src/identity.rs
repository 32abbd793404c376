//! The client certificate of a configuration, and its key. Where they stand in files they are read again each minute: k3s, kubeadm
//! and cert-manager renew such files under a client that runs.

use std::path::PathBuf;
use std::time::Instant;

use ureq::Agent;
use ureq::tls::ClientCert;

use crate::config::error::ConfigError;
use crate::credentials::FILE_PERIOD;
use crate::tls::{ClientIdentity, client_cert};

impl ClientIdentity {
    /// The identity as its files have it now; `None` where that cannot be read, or where there are no files.
    fn read_again(&self) -> Option<ClientIdentity> {
        let files = self.files.clone();
        if files.certificates.is_none() && files.key.is_none() {
            return None;
        }
        let read = |file: &Option<PathBuf>, last: &Vec<u8>| match file {
            Some(path) => ConfigError::read(path),
            None => Ok(last.clone()),
        };
        let read = read(&files.certificates, &self.certificates)
            .and_then(|certificates| Ok((certificates, read(&files.key, &self.key)?)));
        match read {
            Ok((certificates, key)) => Some(ClientIdentity { certificates, key, files }),
            Err(error) => {
                log::debug!("{error}; the last certificate is still used");
                None
            }
        }
    }

    fn is_same(&self, other: &ClientIdentity) -> bool {
        (&self.certificates, &self.key) == (&other.certificates, &other.key)
    }
}

/// The agent that sends requests with the certificate of the configuration, if there is one.
pub(crate) struct OwnAgent {
    agent: Agent,
    identity: Option<ClientIdentity>,
    /// It was read, and cannot be used. Both files cannot be replaced in one moment.
    passed_over: Option<ClientIdentity>,
    read_at: Instant,
}

impl OwnAgent {
    pub fn new(agent: Agent, identity: Option<ClientIdentity>) -> OwnAgent {
        OwnAgent { agent, identity, passed_over: None, read_at: Instant::now() }
    }

    /// The agent to send a request with. `make` makes another one, for a certificate that was replaced.
    pub fn now(&mut self, make: impl FnOnce(ClientCert) -> Agent) -> Agent {
        if self.read_at.elapsed() >= FILE_PERIOD {
            self.read_at = Instant::now();
            self.refresh(make);
        }
        self.agent.clone()
    }

    fn refresh(&mut self, make: impl FnOnce(ClientCert) -> Agent) {
        let known = [&self.identity, &self.passed_over];
        let new = self.identity.as_ref().and_then(ClientIdentity::read_again);
        let Some(new) = new.filter(|new| !known.into_iter().flatten().any(|known| known.is_same(new))) else { return };
        match client_cert(&new) {
            Ok(certificate) => {
                self.agent = make(certificate);
                (self.identity, self.passed_over) = (Some(new), None);
            }
            Err(error) => {
                log::warn!("{error}; the last certificate is still used");
                self.passed_over = Some(new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tls::IdentityFiles;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).expect("a valid name");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_that_was_replaced_is_used_within_a_minute_and_one_that_does_not_fit_is_passed_over() {
        let folder = std::env::temp_dir().join(format!("kube-client-lite-{}-identity", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let [certificate_file, key_file] = ["tls.crt", "tls.key"].map(|name| folder.join(name));
        let (first, second) = (pair(), pair());
        let write = |certificate: &str, key: &str| {
            fs::write(&certificate_file, certificate).expect("it can be written");
            fs::write(&key_file, key).expect("it can be written");
        };
        write(&first.0, &first.1);
        let files = IdentityFiles { certificates: Some(certificate_file.clone()), key: Some(key_file.clone()) };
        let identity = ClientIdentity { certificates: first.0.clone().into(), key: first.1.clone().into(), files };
        let mut own = OwnAgent::new(Agent::new_with_defaults(), Some(identity));
        let mut replaced = |a_minute_later: bool| {
            if a_minute_later {
                own.read_at = own.read_at.checked_sub(FILE_PERIOD).expect("the machine is up for a minute");
            }
            let mut made = 0;
            own.now(|_| {
                made += 1;
                Agent::new_with_defaults()
            });
            made == 1
        };

        assert!(!replaced(true), "nothing changed");
        write(&second.0, &second.1);
        assert!(!replaced(false), "a minute has not passed");
        assert!(replaced(true));
        assert!(!replaced(true), "nothing changed since");
        write(&first.0, &second.1);
        assert!(!replaced(true), "the key is of another certificate");
        fs::remove_file(&key_file).expect("it is there");
        assert!(!replaced(true), "a file that is being replaced does no harm");
        write(&first.0, &first.1);
        assert!(replaced(true), "it fits again");
        fs::remove_dir_all(&folder).expect("it is ours");
    }
}
