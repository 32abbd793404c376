//! The operator as the chart's pod, killed in the middle of its work. The container that follows in the same pod goes on at once.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::fly::Settings;
use lab::homelab::Homelab;
use lab::recorder::{Fault, Gate, Rule, Target};
use lab::service::ServiceHandle;

use crate::row::Row;
use crate::{DEADLINE, log, process, progress, services};

/// The requests that buy something. The operator is killed when Fly has carried it out, and nobody has read the reply.
const POINTS: [&str; 3] = ["/apps$", "/ip_assignments$", "/machines$"];

/// The first letters of the operator's name, as many as Linux keeps.
const OPERATOR: &str = "fly-tunnel-oper";

pub fn run(operator: &Path) {
    let fly =
        Settings { latency: Duration::from_millis(100), machine_boot: Duration::from_secs(1), ..Settings::default() };
    let lab = services::lab(fly, true);
    lab.cluster().operator_image(operator);
    install(&lab);
    log::wait_for(&lab, 0, 1, log::is_poll);

    let mut slowest = Duration::ZERO;
    let mut made = Vec::new();
    for (number, point) in POINTS.into_iter().enumerate() {
        let name = format!("web-{number}");
        let gate = strike(&lab, "POST", point);
        made.push(lab.service(&name).port(8080).create());
        let after = since_kill(&lab, &gate, || has_address(&made[number]));
        progress(format_args!("killed at POST {point}: an address after {:.1} s", after.as_secs_f64()));
        slowest = slowest.max(after);
    }
    let note = format!("killed at {} requests; 66 to 81 s before the Lease was taken over at once", POINTS.len());
    Row::new("from a crash during a creation to the address", slowest.as_secs_f64(), "s")
        .bound(25.0)
        .note(note)
        .print();

    let gate = strike(&lab, "DELETE", r"/apps/[^/]+\?force");
    made[0].delete();
    let after = since_kill(&lab, &gate, || made[0].object().is_null());
    let note = "of which 60 s since Fly's reads lag (docs/design.md)".to_owned();
    Row::new("from a crash during a deletion to its end", after.as_secs_f64(), "s").bound(85.0).note(note).print();
}

/// Keeps back the reply to the first such request to Fly.
fn strike(lab: &Homelab, method: &str, path: &str) -> Gate {
    let gate = Gate::default();
    lab.faults([Rule::new(Fault::HoldReply(gate.clone())).to(Target::Fly).method(method).path(path)]);
    gate
}

/// Kills the operator once that request is carried out. Gives how long it takes until it is done.
fn since_kill(lab: &Homelab, gate: &Gate, done: impl Fn() -> bool) -> Duration {
    gate.wait(DEADLINE).expect("the request is sent");
    let pid = process::child(OPERATOR);
    process::kill(pid);
    let killed = Instant::now();
    gate.drop_held();
    lab.faults([]);
    while !done() {
        assert!(killed.elapsed() < DEADLINE, "it is not done after {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    killed.elapsed()
}

fn has_address(service: &ServiceHandle) -> bool {
    service.object()["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()
}

/// Installs the chart with its default intervals.
fn install(lab: &Homelab) {
    let values = lab.chart_values(&[("FLY_FLAPS_BASE_URL", lab.fly_url())]);
    let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../charts/fly-tunnel-operator");
    let mut helm = lab.helm();
    helm.args(["install", lab.cluster_name()]).arg(chart).arg("--values").arg(values);
    helm.args(["--namespace", lab.operator_namespace(), "--wait", "--timeout", "120s"]);
    let output = helm.output().expect("helm starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
