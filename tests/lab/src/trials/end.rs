//! The end of a story: what is still lacking, and what is told of one that failed.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::story::{Plot, Stage, condition, shown};
use super::watch::apps;
use crate::homelab::Homelab;
use crate::recorder::{Request, Target};

/// So many lines of the operator's log are told of a trial that failed, and so many requests.
const LINES: usize = 120;

/// A user waits so long for an answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Sweeps that an operator at rest makes after the strike.
const SWEEPS: usize = 2;

impl Stage<'_> {
    /// Why the story has not come to its end; `None` when it has. The Service is null if it is gone.
    pub(super) fn lacks(&self, lab: &Homelab, from: usize, service: &Value) -> Option<String> {
        let lacks = if self.story.plot.ends_with_nothing() {
            self.is_not_gone(lab, service)
        } else {
            self.serves_not(lab, service).or_else(|| self.rests_not(lab, from)).or_else(|| {
                let ip = *shown(service).first()?;
                self.ports().iter().find_map(|port| answers_not(ip, *port))
            })
        };
        // The keys are all lanes', and each has a ConfigMap and a Deployment.
        let wanted = if self.story.plot.ends_with_nothing() { 0 } else { 1 + 2 * self.story.lanes };
        lacks.or_else(|| {
            let objects = objects(lab);
            (objects.len() != wanted).then(|| format!("objects in the cluster: {objects:?}"))
        })
    }

    fn ports(&self) -> &'static [u16] {
        if let Plot::Ports(ports) = self.story.plot { ports } else { &[8080] }
    }

    fn is_not_gone(&self, lab: &Homelab, service: &Value) -> Option<String> {
        let apps = apps(lab);
        let service_left = match self.story.plot {
            Plot::Type => {
                let finalized = service["metadata"]["finalizers"].as_array().is_some_and(|names| !names.is_empty());
                service.is_null() || finalized || !condition(service).0.is_empty() || !shown(service).is_empty()
            }
            _ => !service.is_null(),
        };
        (service_left || !apps.is_empty()).then(|| format!("left are the Service {service} and at Fly {apps:?}"))
    }

    /// Nothing lacks: one App, one address, one lane that is as it should be, and the Service says so.
    fn serves_not(&self, lab: &Homelab, service: &Value) -> Option<String> {
        let (reason, message) = condition(service);
        let (apps, shown) = (apps(lab), shown(service));
        let [app] = &apps[..] else { return Some(format!("{reason} {message}: {} Apps", apps.len())) };
        let whole = |what: &str| app[what].as_array().cloned().unwrap_or_default();
        let (ips, machines) = (whole("ips"), whole("machines"));
        let ip = shown.first().map(IpAddr::to_string);
        let addressed = ips.len() == 1 && shown.len() == 1 && ips[0]["ip"].as_str() == ip.as_deref();
        let stays = machines.iter().any(|machine| machine["id"].as_str() == self.machine.as_deref());
        let moved = self.machine.is_none() || stays != self.story.plot.moves();
        let all = machines.len() == self.story.lanes && machines.iter().all(|machine| self.is_wanted(machine));
        let well = reason == "Serving" && addressed && moved && all;
        (!well).then(|| format!("{reason} {message}: the Service shows {shown:?}; at Fly is {app}"))
    }

    fn is_wanted(&self, machine: &Value) -> bool {
        let exposes = |port: &u16| machine["ports"].as_array().is_some_and(|ports| ports.contains(&(*port).into()));
        let region = if self.story.plot == Plot::Annotation("fly-region", "iad") { "iad" } else { "ord" };
        let passes = machine["checks"]
            .as_array()
            .is_some_and(|checks| !checks.is_empty() && checks.iter().all(|check| check["status"] == "passing"));
        let as_wanted = machine["state"] == "started" && machine["cordoned"] == false && machine["region"] == region;
        as_wanted && passes && self.ports().iter().all(exposes)
    }

    /// An operator at rest goes on to sweep after a strike.
    fn rests_not(&self, lab: &Homelab, from: usize) -> Option<String> {
        if self.story.plot != Plot::Rest {
            return None;
        }
        let requests = lab.requests();
        let requests = &requests[from..];
        let after = requests.iter().rposition(|request| request.struck).map_or(0, |struck| struck + 1);
        let sweep = |r: &&Request| r.path.starts_with("/v1/orgs/") && r.status == Some(200);
        let sweeps = requests[after..].iter().filter(sweep).count();
        // The requests of a sweep are struck at no more than the first four of a kind, so that it is known when none will be.
        let wanted = if after == 0 { 6 } else { SWEEPS };
        (sweeps < wanted).then(|| format!("{sweeps} sweeps of {wanted}"))
    }
}

/// The names of our objects in the cluster.
fn objects(lab: &Homelab) -> Vec<String> {
    let namespace = lab.operator_namespace();
    let core = format!("/api/v1/namespaces/{namespace}");
    let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let lists = [deployments, format!("{core}/configmaps"), format!("{core}/secrets")];
    let all = lists.iter().flat_map(|list| lab.cluster().kube().list(list).unwrap_or_default());
    let names = all.filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned));
    names.filter(|name| name.starts_with("lb-")).collect()
}

/// Why a user gets no answer of the backend; `None` where one comes.
fn answers_not(ip: IpAddr, port: u16) -> Option<String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(stream, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.contains("web-") => None,
        Ok(answer) => Some(format!("port {port} answers {answer:?}")),
        Err(error) => Some(format!("port {port}: {error}")),
    }
}

/// The number of the story's writes so far, but for those of Leases and events.
pub(super) fn writes(lab: &Homelab, from: usize) -> usize {
    let writes = |r: &&Request| r.method != "GET" && !r.path.contains("/leases") && !r.path.ends_with("/events");
    let count = |requests: &[Request]| Some(requests[from..].iter().filter(writes).count());
    lab.recorder().wait_requests(Duration::ZERO, count).unwrap_or_default()
}

/// The ends of an operator's log and of the requests.
pub(super) fn tail(log: &str, requests: &[Request]) -> String {
    // Most lines of that level are the HTTP library's.
    let tells = |line: &&str| !line.contains(" DEBUG ") || line.contains("namespace=") || line.contains("Fly: ");
    let lines: Vec<&str> = log.lines().filter(tells).collect();
    let mut text = lines[lines.len().saturating_sub(LINES)..].join("\n");
    text.push_str("\nrequests:\n");
    for request in &requests[requests.len().saturating_sub(LINES)..] {
        let to = if request.to == Target::Fly { "Fly" } else { "Kubernetes" };
        let struck = if request.struck { "  ◄ struck" } else { "" };
        let Request { time, method, path, status, .. } = request;
        let _ = writeln!(text, "{time} {method} {to} {path}: {status:?}{struck}");
    }
    text
}
