//! Why a plan acts, where the steps do not say it themselves.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::tunnel::lane::Recipe;

/// The difference that a plan acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// This Machine was made from another recipe.
    Differs { machine: String, differences: Vec<String> },
    /// Somebody changed the Machine.
    MachineEdited { machine: String, deviations: Vec<String> },
    /// Fly itself made the Machine otherwise than it was asked for, which is accepted.
    SpelledByFly { machine: String, deviations: Vec<String> },
    /// The lane's Machine failed, was lost with its host, or is gone.
    MachineLost { machine: String },
    /// Both Machines of a tunnel are on one host, and would be lost together.
    SharesHost { machine: String, other: String },
    /// Somebody changed frpc's Deployment, or nobody knows whether it is as it should be.
    DeploymentEdited { deployment: String },
}

impl Why {
    /// Why a Machine that was made from the recipe `old` gives way to one by the recipe `new`.
    pub(super) fn differs(machine: &str, old: Option<&str>, new: &Recipe) -> Why {
        let old = old.and_then(|old| serde_json::from_str(old).ok());
        let differences = match old {
            Some(old) => differences(&old, &new.to_json()),
            None => vec!["it does not tell what it was made from: an older version made it".to_owned()],
        };
        Why::Differs { machine: machine.to_owned(), differences }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Differs { machine, differences } => {
                write!(f, "Machine {machine} is replaced: {}", differences.join(", "))
            }
            Why::MachineEdited { machine, deviations } => {
                write!(f, "Machine {machine} is not as it was made, and is replaced: {}", deviations.join(", "))
            }
            Why::SpelledByFly { machine, deviations } => {
                write!(
                    f,
                    "Fly made Machine {machine} in a way of its own, which is accepted: {}",
                    deviations.join(", ")
                )
            }
            Why::MachineLost { machine } => write!(f, "Machine {machine} is lost, and another takes its place"),
            Why::SharesHost { machine, other } => {
                write!(f, "Machine {machine} got the host that Machine {other} has, so another is tried once")
            }
            Why::DeploymentEdited { deployment } => write!(f, "Deployment {deployment} is not as this process left it"),
        }
    }
}

/// Compares two recipes. Gives a text for each field that differs: `Machine size shared-cpu-1x → shared-cpu-2x`.
fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut all = Vec::new();
    compare("", old, new, &mut all);
    all
}

/// Compares field by field, and goes into what has fields of its own.
fn compare(name: &str, old: &Value, new: &Value, all: &mut Vec<String>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(before), Value::Object(after)) => {
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for field in names {
                let of = |fields: &serde_json::Map<String, Value>| fields.get(field).cloned().unwrap_or(Value::Null);
                compare(field, &of(before), &of(after), all);
            }
        }
        _ if name == "forwards" => compare_forwards(old, new, all),
        _ => all.push(format!("{} {} → {}", known_as(name), text(old), text(new))),
    }
}

/// Ports are told as a list of ports. Where they are the same, what belongs to them differs.
fn compare_forwards(old: &Value, new: &Value, all: &mut Vec<String>) {
    let forwards = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let port = |forward: &Value| text(&forward["port"]).trim_end_matches("/tcp").to_owned();
    let (old, new) = (forwards(old), forwards(new));
    let ports = |forwards: &[Value]| forwards.iter().map(port).collect::<Vec<_>>().join(", ");
    if ports(&old) != ports(&new) {
        all.push(format!("ports {} → {}", ports(&old), ports(&new)));
    }
    for after in &new {
        if let Some(before) = old.iter().find(|before| before["port"] == after["port"]) {
            let mut own = Vec::new();
            compare("", before, after, &mut own);
            own.retain(|difference| !all.contains(difference)); // all ports go to one ClusterIP, which is told once
            all.extend(own);
        }
    }
}

/// The name by which people know a field.
fn known_as(field: &str) -> &str {
    match field {
        "to" => "ClusterIP",
        "size" => "Machine size",
        "keys" => "fingerprint of the keys",
        "service_checks" => "--fly-service-checks",
        "frpc_pod" => "--frpc-pod-file",
        field => field,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::recipe;
    use crate::service::machine_size::MachineSize;
    use crate::service::port::Port;
    use crate::tunnel::lane::Forward;
    use crate::tunnel::settings::ServiceChecks;

    #[test]
    fn a_difference_is_told_by_field_and_value() {
        type Edit = fn(&mut Recipe);
        let table: [(Edit, &[&str]); 8] = [
            (|_| (), &[]),
            (
                |r| r.forwards.push(Forward { port: Port::tcp(8443), ..r.forwards[0].clone() }),
                &["ports 80, 443 → 80, 443, 8443"],
            ),
            (
                |r| r.lane.size = MachineSize::parse("shared-cpu-2x").expect("a size"),
                &["Machine size shared-cpu-1x → shared-cpu-2x"],
            ),
            (|r| r.lane.resources.cpu_limit = Some("1".into()), &["cpu_limit none → 1"]),
            (|r| r.forwards[1].settings.bandwidth_limit = Some("2MB".into()), &["bandwidth_limit none → 2MB"]),
            (|r| r.service_checks = ServiceChecks::Tcp, &["--fly-service-checks none → tcp"]),
            (
                |r| r.forwards.iter_mut().for_each(|f| f.to = [10, 96, 0, 8].into()),
                &["ClusterIP 10.96.0.7 → 10.96.0.8"],
            ),
            (
                |r| {
                    r.frps_image = "frps:2".into();
                    r.lane.region = "iad".into();
                },
                &["frps_image frps:1 → frps:2", "region ord → iad"],
            ),
        ];
        for (edit, expected) in table {
            let mut new = recipe();
            edit(&mut new);
            assert_eq!(differences(&recipe().to_json(), &new.to_json()), expected);
        }
    }
}
