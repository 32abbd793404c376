//! The chapters of the demo: each does something, and goes on only when the right thing is seen.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use lab::homelab::Homelab;
use lab::recorder::{Request, Target};
use serde_json::Value;

use crate::calls;
use crate::client::{self, Client, Tally};
use crate::screen::Screen;
use crate::stage::{Outcome, Stage, apps, machines};

/// The namespace where frpc and its Secrets live; it is the operator's default.
const NAMESPACE: &str = "fly-tunnel-operator-system";
const SERVICE: &str = "/api/v1/namespaces/default/services/web";
const PORT: u16 = 8080;
/// The port that is added in the middle of the story.
const SECOND_PORT: u16 = 8443;
/// Times that are shorter than the defaults, to keep the story short. They may be: the lab's edges learn of changes
/// within one second.
const SHORT_TIMES: [(&str, &str); 4] =
    [("--poll-interval", "500ms"), ("--resync-interval", "6s"), ("--fly-settle-time", "2s"), ("--drain-timeout", "3s")];
/// How many connections must succeed. A homelab has as many in a busy minute.
const ENOUGH: u32 = 100;

pub fn introduction(screen: &Screen) {
    screen.title("fly-tunnel-operator: the story of one Service");
    screen
        .say("Real: Kubernetes (etcd, API server, controllers, scheduler), frps and frpc, the operator, the traffic.");
    screen.say("Simulated: Fly.io (its Machines API and its edge) and the node that runs the pods, on loopback.");
}

/// Tells all chapters.
///
/// # Errors
/// The first thing that had to be true and was not seen to be.
pub fn tell(stage: &mut Stage) -> Outcome {
    the_cluster(stage)?;
    the_operator(stage)?;
    a_service(stage)?;
    let address = the_address(stage)?;
    let backend = the_answer(stage, address)?;
    a_change(stage, address, &backend)?;
    a_loss(stage, address, &backend)?;
    the_end(stage)?;
    let requests = stage.lab.requests();
    let count = |to, changing| requests.iter().filter(|r| r.to == to && calls::changes(r) == changing).count();
    stage.screen.told(&format!(
        "All of this was seen to be true, in {} s. The operator changed Fly by {} requests and the cluster by {}, and \
         looked at them {} and {} times.",
        stage.screen.elapsed().as_secs(),
        count(Target::Fly, true),
        count(Target::Kubernetes, true),
        count(Target::Fly, false),
        count(Target::Kubernetes, false),
    ));
    Ok(())
}

fn the_cluster(stage: &mut Stage) -> Outcome {
    stage.chapter("A cluster without a load balancer");
    stage.wait("the node is Ready", |lab| {
        let node = lab.cluster().kube().get("/api/v1/nodes/node-1").ok()?;
        condition(&node, "Ready").filter(|ready| ready["status"] == "True")
    })?;
    stage.run("kubectl get nodes")?;
    stage.screen.say("A web server in it, which answers with the name of its pod:");
    stage.run(&format!("kubectl create deployment web --image=echo --port={PORT}"))?;
    stage.check("Fly has no Apps", apps(stage.lab).is_empty())
}

fn the_operator(stage: &mut Stage) -> Outcome {
    stage.chapter("The operator starts");
    stage.run(&format!("kubectl create namespace {NAMESPACE}"))?;
    let lab = stage.lab;
    let mut arguments = vec!["--fly-org", lab.fly().organisation(), "--fly-region", "ord"];
    arguments.extend(SHORT_TIMES.iter().flat_map(|(flag, value)| [flag, value]));
    stage.screen.say("Its times are shorter than by default (5s, 60s, 10s, 5m), so that this story is, too:");
    stage.screen.command(&format!("fly-tunnel-operator {}", arguments.join(" ")));
    let mut operator = lab.operator(&lab.cluster().bin().join("fly-tunnel-operator")).as_admin();
    // These variables are removed, so that settings not named above have their defaults, as for users.
    for variable in ["CLUSTER_NAME", "LOAD_BALANCER_CLASS", "OPERATOR_NAMESPACE", "RESYNC_INTERVAL", "RUST_LOG"] {
        operator = operator.without(variable);
    }
    for argument in arguments {
        operator = operator.arg(argument);
    }
    stage.enter(operator.start());
    stage.wait("the operator lists Services", |lab| {
        let listed = |request: &Request| calls::path(request) == "/api/v1/services" && request.status == Some(200);
        lab.requests().iter().any(listed).then_some(())
    })?;
    stage.check("it looks for Services, and has changed nothing", !stage.lab.requests().iter().any(calls::changes))
}

fn a_service(stage: &mut Stage) -> Outcome {
    stage.chapter("A Service asks for an address");
    apply(stage, &[PORT])?;
    stage.screen.say("What the operator says, and what it asks of Fly and of the cluster (looks left out):");
    stage.wait("the Service shows an address", shown_address)?;
    let requests = stage.lab.requests();
    let finalizer = requests.iter().position(|request| calls::patches_finalizers(request, "add"));
    let first = requests.iter().position(calls::changes_fly);
    stage.check("the finalizer came before anything at Fly", finalizer.is_some() && finalizer < first)?;
    let app = only_app(stage.lab)?;
    stage.screen.say("What Fly has now (APP above):");
    stage.screen.output(&describe(&app));
    let machine = &app["machines"][0];
    let checks = machine["checks"].as_array().cloned().unwrap_or_default();
    let passing = !checks.is_empty() && checks.iter().all(|check| check["status"] == "passing");
    stage.check("the Machine has started, and Fly's check of the port passes", machine["state"] == "started" && passing)
}

/// Waits for the Service's address; returns it with the port.
fn the_address(stage: &mut Stage) -> Outcome<SocketAddr> {
    stage.chapter("The address");
    let address = shown_address(stage.lab).ok_or("the Service shows no address any more")?;
    let table = stage.run("kubectl get service web")?;
    let given = only_app(stage.lab)?["ips"][0]["ip"] == address.to_string().as_str();
    stage.check("it is the one that Fly gave", given && table.contains(&address.to_string()))?;
    stage.run("kubectl get service web --output=jsonpath-as-json={.status.conditions[*]}")?;
    stage.check("the condition says that it serves", reason(stage.lab).as_deref() == Some("Serving"))?;
    let description = stage.run("kubectl describe service web")?;
    stage.check("the events say so, too", description.contains("EnsuredLoadBalancer"))?;
    Ok(SocketAddr::new(address, PORT))
}

/// Sends a request through the tunnel; returns the answer, which is the backend's name.
fn the_answer(stage: &mut Stage, address: SocketAddr) -> Outcome<String> {
    stage.chapter("A client on the Internet");
    let pods = stage.run("kubectl get pods --selector=app=web --output=name")?;
    let backend = pods.trim().trim_start_matches("pod/").to_owned();
    let answer = request(stage, address)?;
    stage.check("the answer is the backend's", answer.trim() == backend)?;
    Ok(backend)
}

fn a_change(stage: &mut Stage, address: SocketAddr, backend: &str) -> Outcome {
    stage.chapter("A change of its ports, while a client keeps connecting");
    let old = only_app(stage.lab)?["machines"][0]["id"].as_str().unwrap_or_default().to_owned();
    let client = Client::start(address, backend.to_owned());
    let changed = change(stage, &old);
    let tally = client.stop();
    changed?;
    let again = tally.again;
    none_lost(stage, tally)?;
    stage.check("no connection ended in the midst", again == 0)?;
    stage.check("the address is the same", shown_address(stage.lab) == Some(address.ip()))?;
    let answer = request(stage, SocketAddr::new(address.ip(), SECOND_PORT))?;
    stage.check("the new port leads to the backend", answer.trim() == backend)
}

/// Adds a port and waits until the `old` Machine is gone.
fn change(stage: &mut Stage, old: &str) -> Outcome {
    apply(stage, &[PORT, SECOND_PORT])?;
    stage.screen.say("A Machine and its frpc are never changed: new ones are made, and the old ones go last.");
    stage.screen.say("As with Fly, not all of the edge learns of that at once; in the lab, it takes a second.");
    let mut both_served = false;
    stage.wait("the old Machine is destroyed", |lab| {
        let machines = machines(&only_app(lab).ok()?);
        both_served |= machines.iter().filter(|machine| passes(machine)).count() == 2;
        machines.iter().all(|machine| machine["id"] != old).then_some(())
    })?;
    stage.wait("the Service says that it serves", |lab| reason(lab).filter(|reason| reason == "Serving"))?;
    stage.check("the new Machine and the old one served side by side", both_served)?;
    let requests = stage.lab.requests();
    let last = |method: &str, end: &str| {
        requests.iter().rposition(|request| request.method == method && calls::path(request).ends_with(end))
    };
    let order = [
        last("POST", "/machines"),
        last("POST", &format!("/machines/{old}/cordon")),
        last("POST", &format!("/machines/{old}/metadata/fto_retiring_since")),
        last("DELETE", &format!("/machines/{old}")),
    ];
    let in_order = order.iter().all(Option::is_some) && order.is_sorted();
    stage.check("make before break: the new one made, the old one cordoned, left to drain, destroyed", in_order)
}

/// One of two Machines dies.
fn a_loss(stage: &mut Stage, address: SocketAddr, backend: &str) -> Outcome {
    stage.chapter("A second lane, and a Machine that dies while a client keeps connecting");
    stage.run("kubectl annotate service web fly-tunnel-operator.dev/replicas=2")?;
    let both_serve = |lab: &Homelab| {
        let serving =
            reason(lab)? == "Serving" && machines(&only_app(lab).ok()?).iter().filter(|m| passes(m)).count() == 2;
        serving.then_some(())
    };
    stage.wait("two lanes serve", both_serve)?;
    let app = only_app(stage.lab)?;
    let dies = app["machines"][0]["id"].as_str().unwrap_or_default().to_owned();
    let client = Client::start(address, backend.to_owned());
    stage.screen.command(&format!("fly machine destroy --force {dies}"));
    let destroyed = client::destroy(stage.lab.fly(), app["name"].as_str().unwrap_or_default(), &dies);
    let mut degraded = false;
    let again = stage.wait("two lanes serve again", |lab| {
        degraded |= reason(lab).as_deref() == Some("ServingDegraded");
        both_serve(lab).filter(|()| degraded)
    });
    let tally = client.stop();
    destroyed.map_err(|error| format!("Fly does not destroy it: {error}"))?;
    again?;
    none_lost(stage, tally)?;
    stage.check("meanwhile the Service said that one of two lanes serves", degraded)?;
    stage.check("the address is the same", shown_address(stage.lab) == Some(address.ip()))
}

/// Each connection of the client was answered, or was answered when it was opened once more.
fn none_lost(stage: &Stage, Tally { answered, again, lost }: Tally) -> Outcome {
    if let Some(why) = lost.first() {
        return Err(format!("the client lost {} of {} connections: {why}", lost.len(), answered as usize + lost.len()));
    }
    let told = format!("the client opened {answered} connections meanwhile, and none was lost");
    let told = if again == 0 {
        told
    } else {
        format!("{told} ({again} ended in the midst, and was answered when opened again)")
    };
    stage.check(&told, answered >= ENOUGH)
}

/// The Machine takes users, and passes all its checks.
fn passes(machine: &Value) -> bool {
    let checks = machine["checks"].as_array();
    machine["cordoned"] == false
        && checks.is_some_and(|checks| !checks.is_empty() && checks.iter().all(|check| check["status"] == "passing"))
}

fn the_end(stage: &mut Stage) -> Outcome {
    stage.chapter("The Service goes, and all of it with it");
    stage.run("kubectl delete service web --wait=false")?;
    stage.wait("the Service is gone", |lab| lab.cluster().kube().find(SERVICE).ok()?.is_none().then_some(()))?;
    let requests = stage.lab.requests();
    let last_of_fly = requests.iter().rposition(|request| request.to == Target::Fly);
    let finalizer = requests.iter().position(|request| calls::patches_finalizers(request, "remove"));
    let gone = last_of_fly.is_some_and(|last| requests[last].status == Some(404));
    stage.check("the finalizer went last, when Fly had said that the App is gone", gone && last_of_fly < finalizer)?;
    stage.check("Fly has no Apps: no Machine and no address that costs", apps(stage.lab).is_empty())?;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    stage.wait("frpc has ended", |lab| lab.cluster().kube().list(&pods).ok()?.is_empty().then_some(()))?;
    let left = stage.run(&format!(
        "kubectl get deployments,pods,configmaps,secrets --selector=fly-tunnel-operator.dev/app --namespace={NAMESPACE}"
    ))?;
    stage.check("the cluster has nothing of it", left.trim().is_empty())
}

/// Writes the Service into a file, shows it, and applies it.
fn apply(stage: &mut Stage, ports: &[u16]) -> Outcome {
    let yaml = manifest(ports);
    let file = stage.lab.directory().join("web.yaml");
    std::fs::write(file, &yaml).map_err(|error| format!("web.yaml cannot be written: {error}"))?;
    stage.screen.command("cat web.yaml");
    stage.screen.output(&yaml);
    stage.run("kubectl apply --filename=web.yaml").map(drop)
}

fn manifest(ports: &[u16]) -> String {
    let ports: String =
        ports.iter().map(|port| format!("  - {{ name: tcp-{port}, port: {port}, targetPort: {PORT} }}\n")).collect();
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: LoadBalancer
  loadBalancerClass: fly-tunnel-operator.dev/lb
  selector: {{ app: web }}
  ports:
{ports}"
    )
}

/// Sends a request with curl or, where curl is missing, by itself.
fn request(stage: &mut Stage, address: SocketAddr) -> Outcome<String> {
    if has_curl() {
        return stage.run(&format!("curl --silent --show-error --max-time 10 http://{address}/"));
    }
    stage.screen.say(&format!("(There is no curl here: the demo itself asks for http://{address}/)"));
    let answer = client::get(address).map_err(|error| format!("http://{address}/: {error}"))?;
    stage.screen.output(&answer);
    Ok(answer)
}

fn has_curl() -> bool {
    Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success())
}

fn shown_address(lab: &Homelab) -> Option<IpAddr> {
    let service = lab.cluster().kube().find(SERVICE).ok()??;
    service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.parse().ok()
}

/// The reason in the operator's condition on the Service.
fn reason(lab: &Homelab) -> Option<String> {
    let service = lab.cluster().kube().find(SERVICE).ok()??;
    condition(&service, "fly-tunnel-operator.dev/Ready")?["reason"].as_str().map(str::to_owned)
}

fn condition(object: &Value, name: &str) -> Option<Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name).cloned()
}

fn only_app(lab: &Homelab) -> Outcome<Value> {
    match <[Value; 1]>::try_from(apps(lab)) {
        Ok([app]) => Ok(app),
        Err(apps) => Err(format!("Fly has {} Apps where one is expected", apps.len())),
    }
}

/// Describes an App in a few lines.
fn describe(app: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        format!("App      {}", text(&app["name"])),
        format!("network  {}", text(&app["network"])),
        format!("address  {} ({})", text(&app["ips"][0]["ip"]), text(&app["ips"][0]["type"])),
    ];
    for machine in machines(app) {
        let checks = machine["checks"].as_array().into_iter().flatten();
        let checks: Vec<String> =
            checks.map(|check| format!("{} {}", text(&check["name"]), text(&check["status"]))).collect();
        let [id, region, state] = ["id", "region", "state"].map(|field| text(&machine[field]));
        lines.push(format!(
            "Machine  {id} in {region}: {state}, ports {}, checks: {}",
            machine["ports"],
            checks.join(", ")
        ));
    }
    lines.join("\n")
}
