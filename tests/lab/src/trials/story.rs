//! The stories: how each begins, what happens, and what all is to be like at its end.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fly::Settings;
use crate::homelab::Homelab;
use crate::operator::{Operator, RunningOperator};
use crate::service::ServiceHandle;

/// The annotation that asks for so many lanes.
const REPLICAS: &str = "replicas";

/// The deadline for what comes before a story.
const BEFORE: Duration = Duration::from_secs(240);

/// A story of one Service.
#[derive(Clone, Copy)]
pub struct Story {
    pub name: &'static str,
    pub about: &'static str,
    pub(super) plot: Plot,
    /// How many lanes there are at its end. They are there from the beginning, but in the story in which one comes.
    pub(super) lanes: usize,
    /// It has come to its end by then, whatever strikes. A request may hang for 30 s; Fly's "not found" is believed after a minute.
    pub bound: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Plot {
    /// The operator starts, and finds a Service.
    Creation,
    /// The Service gets these ports.
    Ports(&'static [u16]),
    /// The Service gets this annotation.
    Annotation(&'static str, &'static str),
    /// The operator is started again with another image of frps.
    Image,
    /// While no operator runs, the Service is deleted and made again, with another ClusterIP.
    ClusterIp,
    /// Nothing happens.
    Rest,
    /// The Service becomes one of type ClusterIP.
    Type,
    Deletion,
}

/// An App that three looks take for another organisation's, as Fly answers 403, is found to be absent by the fourth, an interval of 60 s
/// each.
const SERVES_WITHIN: Duration = Duration::from_secs(240);
const GONE_WITHIN: Duration = Duration::from_secs(200);

const fn story(name: &'static str, about: &'static str, plot: Plot) -> Story {
    let bound = if plot.ends_with_nothing() { GONE_WITHIN } else { SERVES_WITHIN };
    Story { name, about, plot, lanes: 1, bound }
}

const fn with_two_lanes(name: &'static str, about: &'static str, plot: Plot) -> Story {
    Story { lanes: 2, ..story(name, about, plot) }
}

/// All stories.
pub static STORIES: [Story; 15] = [
    story("creation", "the operator starts, is elected, and finds a new Service", Plot::Creation),
    story("ports", "a second port", Plot::Ports(&[8080, 9090])),
    story("control-port", "the very port on which the lane is controlled", Plot::Ports(&[8080, 7000])),
    story("region", "another region", Plot::Annotation("fly-region", "iad")),
    story("size", "a larger Machine", Plot::Annotation("fly-machine-size", "shared-cpu-2x")),
    story("bandwidth", "a limit of the bandwidth", Plot::Annotation("bandwidth-limit", "10MB")),
    story("resources", "more memory for frpc", Plot::Annotation("frpc-memory-limit", "256Mi")),
    story("image", "the operator is started with another image of frps", Plot::Image),
    story("cluster-ip", "the Service is made again under its name while no operator runs", Plot::ClusterIp),
    story("rest", "nothing happens but sweeps", Plot::Rest),
    story("type", "the Service becomes one of type ClusterIP", Plot::Type),
    story("deletion", "the Service is deleted", Plot::Deletion),
    with_two_lanes("two-lanes", "as creation, with two lanes", Plot::Creation),
    with_two_lanes("two-ports", "a second port, with two lanes", Plot::Ports(&[8080, 9090])),
    with_two_lanes("second-lane", "a second lane", Plot::Annotation(REPLICAS, "2")),
];

impl Plot {
    pub(super) const fn ends_with_nothing(self) -> bool {
        matches!(self, Plot::Type | Plot::Deletion)
    }

    /// Whether another Machine takes over.
    pub(super) fn moves(self) -> bool {
        match self {
            Plot::Annotation(name, _) => name != REPLICAS,
            Plot::Ports(_) | Plot::Image | Plot::ClusterIp => true,
            Plot::Creation | Plot::Rest | Plot::Type | Plot::Deletion => false,
        }
    }
}

impl Story {
    /// The number of lanes that the Service asks for when the story begins.
    fn lanes_before(&self) -> usize {
        if matches!(self.plot, Plot::Annotation(REPLICAS, _)) { 1 } else { self.lanes }
    }

    /// A lab whose Fly takes a moment to delete an App, so that a finalizer that goes too early is seen; and some to show what is new,
    /// so that it is seen where something is made again after a fault. The operator tries again after a second.
    pub(super) fn lab(&self) -> Homelab {
        let fly = Settings {
            app_deletion: Duration::from_millis(500),
            app_appears_after: Duration::from_millis(300),
            machine_appears_after: Duration::from_millis(1500),
            address_appears_after: Duration::from_millis(2500),
            ..Settings::default()
        };
        Homelab::builder().fly(fly).start()
    }

    /// The operator of this story. Only one that is at rest looks again by itself before a minute has passed, so that stories are the
    /// same each time. A lane is given more time than the edges take, so that it is always looked at in between. The one that begins a story is elected as users have it, with a shorter Lease.
    fn operator<'a>(&self, lab: &'a Homelab, binary: &Path) -> Operator<'a> {
        let resync = if self.plot == Plot::Rest { "5s" } else { "60s" };
        let operator = lab.operator(binary).env("RESYNC_INTERVAL", resync);
        let operator = operator.env("FLY_SETTLE_TIME", "1s").env("DRAIN_TIMEOUT", "2s");
        match self.plot {
            Plot::Creation => operator
                .env("LEADER_ELECT", "true")
                .env("LEADER_ELECT_LEASE_DURATION", "20s")
                .env("LEADER_ELECT_RENEW_DEADLINE", "12s")
                .env("LEADER_ELECT_RETRY_PERIOD", "2s"),
            _ => operator,
        }
    }
}

/// The stage of a story: its Service, and its operator while it runs.
pub(super) struct Stage<'a> {
    pub(super) story: &'a Story,
    lab: &'a Homelab,
    binary: PathBuf,
    operator: Option<RunningOperator>,
    pub(super) web: ServiceHandle<'a>,
    /// The address that the Service shows, and its Machine, when the story begins.
    pub(super) address: Option<IpAddr>,
    pub(super) machine: Option<String>,
}

impl<'a> Stage<'a> {
    /// Prepares everything up to the beginning of the story.
    pub(super) fn set(story: &'a Story, lab: &'a Homelab, binary: &Path) -> Stage<'a> {
        lab.operator_account(); // the first look at it makes a namespace, and that is no part of the story
        let before = (story.plot != Plot::Creation).then(|| story.operator(lab, binary).start());
        let replicas = format!("fly-tunnel-operator.dev/{REPLICAS}");
        let web = lab.service("web").port(8080).annotation(&replicas, &story.lanes_before().to_string()).create();
        let mut stage =
            Stage { story, lab, binary: binary.to_owned(), operator: before, web, address: None, machine: None };
        if stage.operator.is_some() {
            stage.serves();
        }
        if matches!(story.plot, Plot::Image | Plot::ClusterIp) {
            stage.kill();
        }
        if story.plot == Plot::ClusterIp {
            stage.make_again();
        }
        stage
    }

    /// Waits until the Service is served, and nothing is left to do.
    fn serves(&mut self) {
        self.address = Some(self.web.address(BEFORE));
        let path = self.web.path();
        let serves = |service: Option<&Value>| service.is_some_and(|service| condition(service).0 == "Serving");
        self.lab.cluster().kube().wait_until(&path, BEFORE, serves);
        let state = self.lab.fly().state();
        self.machine = state["apps"][0]["machines"][0]["id"].as_str().map(str::to_owned);
    }

    /// Lets happen what the story is about.
    pub(super) fn go(&mut self) {
        let kube = self.lab.cluster().kube();
        let change = |change: Value| drop(kube.merge_patch(&self.web.path(), &change).expect("the Service is changed"));
        match self.story.plot {
            Plot::Creation | Plot::Image | Plot::ClusterIp => self.start(),
            Plot::Rest => {}
            Plot::Ports(ports) => {
                let entry = |port: &u16| json!({ "name": format!("tcp-{port}"), "port": port, "targetPort": 8080 });
                change(json!({ "spec": { "ports": ports.iter().map(entry).collect::<Vec<_>>() } }));
            }
            Plot::Annotation(name, value) => {
                change(json!({ "metadata": { "annotations": { format!("fly-tunnel-operator.dev/{name}"): value } } }));
            }
            Plot::Type => change(json!({ "spec": {
                "type": "ClusterIP", "loadBalancerClass": null, "allocateLoadBalancerNodePorts": null,
            } })),
            Plot::Deletion => self.web.delete(),
        }
    }

    /// Starts the operator.
    pub(super) fn start(&mut self) {
        let operator = self.story.operator(self.lab, &self.binary);
        let operator = match self.story.plot {
            Plot::Image => operator.env("FRPS_IMAGE", "registry.example.com/other/frps:v1"),
            _ => operator,
        };
        self.operator = Some(operator.start());
    }

    /// Kills the operator. Gives its log.
    pub(super) fn kill(&mut self) -> String {
        let Some(operator) = self.operator.take() else { return String::new() };
        let log = operator.log();
        operator.kill();
        log
    }

    /// The log of the operator, if it has ended by itself.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.operator.as_mut()?.exit_status()?;
        Some(self.kill())
    }

    /// Deletes the Service and makes it again under its name, with another ClusterIP.
    fn make_again(&mut self) {
        let (kube, path, object) = (self.lab.cluster().kube(), self.web.path(), self.web.object());
        self.web.delete();
        kube.merge_patch(&path, &json!({ "metadata": { "finalizers": null } })).expect("the finalizer is taken away");
        self.web.wait_gone(BEFORE);
        let mut spec = json!({});
        for field in ["type", "loadBalancerClass", "allocateLoadBalancerNodePorts", "selector", "ports"] {
            spec[field] = object["spec"][field].clone();
        }
        let again =
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": self.web.name }, "spec": spec });
        let services = format!("/api/v1/namespaces/{}/services", self.web.namespace);
        kube.create(&services, &again).expect("the Service is accepted");
    }
}

/// The reason and the message of our condition; both are empty if there is none.
pub(super) fn condition(service: &Value) -> (String, String) {
    let conditions = service["status"]["conditions"].as_array();
    let ours = conditions.into_iter().flatten().find(|condition| condition["type"] == "fly-tunnel-operator.dev/Ready");
    let text = |field: &str| ours.and_then(|ours| ours[field].as_str()).unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// The addresses that a Service shows.
pub(super) fn shown(service: &Value) -> Vec<IpAddr> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    ingress.into_iter().flatten().filter_map(|entry| entry["ip"].as_str()?.parse().ok()).collect()
}
