//! `scripts/demo` tells the story of one Service, as it happens on a homelab in a box.
//!
//! | module | |
//! |---|---|
//! | [`story`] | the chapters: what is done, and what must be seen for the demo to go on |
//! | [`stage`] | what all chapters use: commands, waiting, and the operator's log and requests meanwhile |
//! | [`calls`] | one line for a request of the operator |
//! | [`client`] | a client that never stops connecting |
//! | [`screen`] | how it looks |
//!
//! The exit code is 0 only if each step was seen to be true. Ctrl-C just ends this process: whatever a lab starts dies
//! with it.

mod calls;
mod client;
mod screen;
mod stage;
mod story;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lab::cluster::{Cluster, ClusterOptions};
use lab::fly::Settings;
use lab::homelab::Homelab;

use screen::Screen;
use stage::{Outcome, Stage};

/// How many lines of the operator's log are shown after a failure. They are enough to see what it was doing.
const TAIL: usize = 30;

fn main() -> ExitCode {
    let screen = Screen::new();
    let Some(operator) = std::env::var_os("LAB_OPERATOR").map(PathBuf::from) else {
        screen.failed("LAB_OPERATOR names the built operator; scripts/demo sets it");
        return ExitCode::from(2);
    };
    match run(&screen, operator) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            screen.failed(&message);
            ExitCode::FAILURE
        }
    }
}

/// Raises the lab, tells the story and takes the lab down.
fn run(screen: &Screen, operator: PathBuf) -> Outcome {
    story::introduction(screen);
    let options = ClusterOptions { operator: Some(operator), ..ClusterOptions::default() };
    let cluster = screen
        .during("etcd, kube-apiserver, kube-controller-manager, kube-scheduler and a node start", || {
            Cluster::try_start(options)
        });
    let cluster = Arc::new(cluster.map_err(|error| format!("the cluster does not start: {error}"))?);
    let lab = Homelab::builder().fly(fly()).cluster(&cluster).start();
    let mut stage = Stage::new(screen, &lab);
    // A lab that is broken panics; here that becomes a failure of the demo.
    let told = catch_unwind(AssertUnwindSafe(|| story::tell(&mut stage))).unwrap_or_else(|panic| Err(message(panic)));
    let told = told.map_err(|message| stage.fail(&message, TAIL));
    drop(stage);
    screen.during("the lab ends", || drop((lab, cluster)));
    told
}

/// A Fly that is as slow as the real one in two ways: a Machine takes a second to boot, and edges learn of changes a
/// second late. Only then can the demo show that a new lane is up before the old one goes.
fn fly() -> Settings {
    let second = Duration::from_secs(1);
    Settings { machine_boot: second, edge_delay: second, control_edge_delay: second, ..Settings::default() }
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
    text.unwrap_or_else(|| "the lab broke".to_owned())
}
