//! Start it in two terminals: one of them leads. Press Enter there, and the other one leads at once; kill it, and the
//! other one leads after 15 s.

use std::error::Error;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use kube_client_lite::lease::{Candidate, Leadership, Standing, Timings};
use kube_client_lite::{Client, ClientOptions, Config, Sources};

fn main() -> Result<(), Box<dyn Error>> {
    let kubeconfig = std::env::var("KUBECONFIG").ok();
    let config = Config::load(&Sources { kubeconfig: kubeconfig.as_deref(), ..Sources::default() })?;
    let namespace = config.namespace().unwrap_or("default").to_owned();
    let timings = Timings::default();
    // A leader has time for four requests that hang before its term ends.
    let timeout = timings.renew_deadline / 4;
    let client = Client::new(config, &ClientOptions { timeout, ..ClientOptions::new("election/0.1") })?;

    // No two candidates may have the same identity.
    let identity = format!("{}-{:?}", std::process::id(), std::time::UNIX_EPOCH.elapsed()?);
    let mut candidate = Candidate::new(client, &namespace, "kube-client-lite-example", &identity, timings);
    let leadership = candidate.leadership();
    thread::spawn(move || work(&leadership));
    let (resign, resigned) = mpsc::channel();
    thread::spawn(move || std::io::stdin().read_line(&mut String::new()).map(|_| resign.send(())));

    loop {
        match candidate.round() {
            Ok(Standing::Following { holder, .. }) => println!("{identity} waits for {holder}"),
            Ok(Standing::Leading | Standing::Seized(_)) => {}
            // The term lasts until the renew deadline all the same.
            Err(error) => eprintln!("{error}"),
        }
        if resigned.recv_timeout(timings.retry_period) != Err(RecvTimeoutError::Timeout) {
            candidate.release()?;
            return Ok(());
        }
    }
}

/// The work that only the leader may do, step by step.
fn work(leadership: &Leadership) {
    loop {
        let Some(permit) = leadership.wait(Duration::from_secs(60)) else { continue };
        println!("leading");
        while permit.holds() {
            thread::sleep(Duration::from_secs(1)); // in place of a step
        }
        println!("no longer leading");
    }
}
