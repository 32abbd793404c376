//! The manifests that the chart makes, and whether the operator agrees with them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use lab::rights::{EVERYWHERE, IN_ITS_NAMESPACE, IN_KUBE_SYSTEM, Rule};
use serde_json::{Value, json};

use super::{CHART, EVERYTHING, MINIMAL, file, helm, manifests, manifests_to_install, objects, only, yaml};

use crate::support::binary;
use crate::support::snapshot::assert_shows;

const NAMESPACE: &str = "fly-tunnel-operator-system";

#[test]
fn lint_has_nothing_to_say() {
    for values in [MINIMAL, EVERYTHING] {
        helm(&[&["lint", "--strict", CHART], values].concat()).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn the_manifests_are_as_they_were_seen() {
    for (name, values) in [("chart/minimal", MINIMAL), ("chart/everything", EVERYTHING)] {
        let text = manifests_to_install(NAMESPACE, values);
        // The dashboard is long, and is the same text as its file in the chart, so the snapshot leaves it out.
        let dashboard: String =
            file("dashboards/fly-tunnel-operator.json").lines().map(|line| format!("    {line}\n")).collect();
        assert_eq!(text.contains(&dashboard), values == EVERYTHING);
        assert_shows(name, &text.replace(&dashboard, "    <dashboard>\n"));
    }
}

/// The notes that helm prints after an install. Nothing is installed.
fn notes(values: &[&str]) -> String {
    let install = ["install", "fly-tunnel-operator", CHART, "--namespace", NAMESPACE, "--dry-run=client"];
    let said = helm(&[&install, values].concat()).expect("it renders");
    said.split_once("NOTES:\n").expect("it has notes").1.to_owned()
}

#[test]
fn the_notes_are_as_they_were_seen() {
    assert_shows("chart/notes", &notes(MINIMAL));
    assert_shows("chart/notes-drain", &notes(&[MINIMAL, &["--set", "uninstall.drain=true"]].concat()));
}

/// The Service that the notes offer has the class that this release serves.
#[test]
fn the_service_in_the_notes_has_our_class() {
    for (values, class) in [(MINIMAL, "fly-tunnel-operator.dev/lb"), (EVERYTHING, "example.com/tunnel")] {
        let notes = notes(values);
        let (_, rest) = notes.split_once("<<'EOF'\n").expect("a manifest");
        let service = &yaml::documents(rest.split_once("    EOF\n").expect("its end").0)[0];
        assert_eq!(service["spec"]["loadBalancerClass"], class);
        assert_eq!(service["spec"]["type"], "LoadBalancer");
    }
}

/// Cargo.toml decides which version this is, and Chart.yaml has to say the same.
#[test]
fn chart_and_operator_have_one_version() {
    let chart = &yaml::documents(&file("Chart.yaml"))[0];
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field} of Chart.yaml (left) is not that of Cargo.toml");
    }
}

#[test]
fn an_older_kubernetes_is_refused() {
    let error = manifests(NAMESPACE, &[MINIMAL, &["--kube-version", "1.30.9"]].concat()).expect_err("refused");
    assert!(error.contains("requires kubeVersion: >=1.31.0-0"), "{error}");
    // Managed clusters call their versions like this.
    manifests(NAMESPACE, &[MINIMAL, &["--kube-version", "v1.31.0-gke.1"]].concat()).expect("new enough");
}

/// Rights, each by itself: where it is given, then group, resource, verb and name.
type Rights = BTreeSet<[String; 5]>;

fn granted(objects: &[Value]) -> Rights {
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item.as_str().expect("a text").to_owned()).collect()
    };
    let mut rights = Rights::new();
    for role in objects.iter().filter(|object| object["kind"] == "ClusterRole" || object["kind"] == "Role") {
        let place = role["metadata"]["namespace"].as_str().unwrap_or("everywhere");
        for rule in role["rules"].as_array().expect("rules") {
            let named = texts(&rule["resourceNames"]);
            let names = if named.is_empty() { vec![String::new()] } else { named };
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        rights.extend(
                            names.iter().map(|name| [place, &group, &resource, &verb, name].map(str::to_owned)),
                        );
                    }
                }
            }
        }
    }
    rights
}

fn wanted(places: &[(&str, &[Rule])]) -> Rights {
    let one = |place: &str, rule: &Rule, verb: &str| {
        [place, rule.group, rule.resource, verb, rule.name.unwrap_or_default()].map(str::to_owned)
    };
    let rules = places.iter().flat_map(|(place, rules)| rules.iter().map(move |rule| (*place, rule)));
    rules.flat_map(|(place, rule)| rule.verbs.iter().map(move |verb| one(place, rule, verb))).collect()
}

/// The operator's tests run with these rights and no other, and a test in `rights.rs` shows that each of them is used.
#[test]
fn the_operator_gets_the_rights_that_it_is_tested_with() {
    let everywhere = ("everywhere", &EVERYWHERE[..]);
    let at_home = (NAMESPACE, &IN_ITS_NAMESPACE[..]);
    let all = [everywhere, ("kube-system", &IN_KUBE_SYSTEM), at_home];
    assert_eq!(granted(&objects(NAMESPACE, MINIMAL)), wanted(&all));
    let named = objects(NAMESPACE, &[MINIMAL, &["--set", "clusterName=home"]].concat());
    assert_eq!(granted(&named), wanted(&[everywhere, at_home]), "a cluster that has a name is not asked for its UID");
}

#[test]
fn each_role_is_bound_to_the_account_that_the_pod_has() {
    let other = [MINIMAL, &["--set", "serviceAccount.create=false,serviceAccount.name=mine"]].concat();
    let none = [MINIMAL, &["--set", "serviceAccount.create=false"]].concat();
    for (values, account) in
        [(MINIMAL, "fly-tunnel-operator"), (EVERYTHING, "tunnels"), (&other, "mine"), (&none, "default")]
    {
        let objects = objects(NAMESPACE, values);
        let key = |kind: &Value, object: &Value| format!("{kind} {} {}", object["namespace"], object["name"]);
        let roles: BTreeSet<String> = (objects.iter())
            .filter(|object| object["kind"] == "ClusterRole" || object["kind"] == "Role")
            .map(|role| key(&role["kind"], &role["metadata"]))
            .collect();
        let mut bound = BTreeSet::new();
        for binding in objects.iter().filter(|object| object["roleRef"].is_object()) {
            let role = json!({ "namespace": binding["metadata"]["namespace"], "name": binding["roleRef"]["name"] });
            bound.insert(key(&binding["roleRef"]["kind"], &role));
            let subject = json!([{ "kind": "ServiceAccount", "name": account, "namespace": NAMESPACE }]);
            assert_eq!(binding["subjects"], subject);
        }
        assert_eq!(bound, roles);
        let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], account);
    }
}

fn arguments(owner: &Value) -> Vec<String> {
    let arguments = owner["spec"]["template"]["spec"]["containers"][0]["args"].as_array().expect("arguments");
    arguments.iter().map(|argument| argument.as_str().expect("a text").to_owned()).collect()
}

/// The binary checks flags and values before it looks for a cluster. So if it complains of nothing but the kubeconfig,
/// it has taken the rest. The files that its pod would mount are in a folder of the test.
#[test]
fn the_operator_takes_every_argument() {
    for (name, values) in [("minimal", MINIMAL), ("everything", EVERYTHING)] {
        let root = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chart-pod-{name}"));
        let objects = objects(NAMESPACE, values);
        let deployment = only(&objects, "Deployment");
        let pod = &deployment["spec"]["template"]["spec"];
        let volumes: BTreeMap<&str, &Value> = (pod["volumes"].as_array().expect("volumes").iter())
            .map(|volume| (volume["name"].as_str().expect("a name"), volume))
            .collect();
        for mount in pod["containers"][0]["volumeMounts"].as_array().expect("mounts") {
            assert!(mount["subPath"].is_null(), "a Secret that changes does not reach a subPath");
            let folder = root.join(mount["mountPath"].as_str().expect("a path").trim_start_matches('/'));
            std::fs::create_dir_all(&folder).expect("a folder");
            let volume = volumes[mount["name"].as_str().expect("a name")];
            let source = volume["secret"]["secretName"].as_str().or(volume["configMap"]["name"].as_str());
            let holder = (objects.iter())
                .find(|object| object["data"].is_object() && object["metadata"]["name"] == source.expect("a name"))
                .expect("the chart makes what it mounts");
            for (key, content) in holder["data"].as_object().expect("data") {
                std::fs::write(folder.join(key), content.as_str().expect("a text")).expect("a file");
            }
        }
        let arguments: Vec<String> = (arguments(deployment).into_iter())
            .map(|argument| argument.replace("=/etc/", &format!("={}/etc/", root.display())))
            .collect();
        let output = Command::new(binary()).env_clear().args(&arguments).args(["--kubeconfig", "/nowhere"]).output();
        let output = output.expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains("/nowhere") && said.contains("--kubeconfig"), "{arguments:?}: {said}");
    }
}

#[test]
fn what_drains_is_the_operators_own_pod_but_for_what_serves() {
    let objects = yaml::documents(&manifests_to_install(NAMESPACE, EVERYTHING));
    let (deployment, job) = (only(&objects, "Deployment"), only(&objects, "Job"));
    assert_eq!(arguments(job), [vec!["--drain".to_owned()], arguments(deployment)].concat());
    let essence = |owner: &Value| {
        let mut pod = owner["spec"]["template"].clone();
        pod["metadata"]["labels"]["app.kubernetes.io/component"].take();
        // The Job's pod does not wait for the Secret with its token, which is `optional` there.
        pod["spec"]["volumes"][0]["secret"].as_object_mut().expect("the token's").remove("optional");
        for field in ["restartPolicy", "topologySpreadConstraints"] {
            pod["spec"].as_object_mut().expect("a pod").remove(field);
        }
        let container = pod["spec"]["containers"][0].as_object_mut().expect("a container");
        for field in ["args", "ports", "livenessProbe", "readinessProbe"] {
            container.remove(field);
        }
        pod
    };
    assert_eq!(essence(job), essence(deployment));
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    let selected = deployment["spec"]["selector"]["matchLabels"].as_object().expect("labels");
    assert!(selected.iter().any(|(name, value)| labels[name] != *value), "the Deployment counts its pods only");
    assert_eq!(job["metadata"]["annotations"]["helm.sh/hook"], "pre-delete");
}

/// Other tools apply what `helm template` makes, beside a release that serves too. To them a hook is an ordinary object.
#[test]
fn what_helm_template_makes_takes_nothing_down() {
    let drains = |object: &Value| object.to_string().contains("--drain");
    let rendered = objects(NAMESPACE, EVERYTHING);
    assert!(!rendered.iter().any(drains), "{rendered:#?}");
    let mut installed = yaml::documents(&manifests_to_install(NAMESPACE, EVERYTHING));
    installed.retain(|object| !drains(object));
    assert_eq!(installed, rendered, "nothing else differs");
}

#[test]
fn policies_select_the_pods_that_they_are_for() {
    let objects = yaml::documents(&manifests_to_install(NAMESPACE, EVERYTHING));
    let frpc = include_str!("../../../src/render/snapshots/deployment.json");
    let frpc: Value = serde_json::from_str(frpc).expect("JSON");
    let labels = |owner: &Value| owner["spec"]["template"]["metadata"]["labels"].clone();
    let pods = [labels(only(&objects, "Deployment")), labels(only(&objects, "Job")), labels(&frpc)];
    let policies = objects.iter().filter(|object| object["kind"] == "NetworkPolicy");
    let selected: BTreeMap<&str, Vec<bool>> = policies
        .map(|policy| {
            let wanted = policy["spec"]["podSelector"]["matchLabels"].as_object().expect("labels");
            let selects = |pod: &Value| wanted.iter().all(|(name, value)| pod[name] == *value);
            (policy["metadata"]["name"].as_str().expect("a name"), pods.iter().map(selects).collect())
        })
        .collect();
    let expected = [("home-tunnels", vec![true, true, false]), ("home-tunnels-frpc", vec![false, false, true])];
    assert_eq!(selected, expected.into());
}

#[test]
fn several_operators_are_spread_and_disrupted_one_at_a_time() {
    let one = objects(NAMESPACE, MINIMAL);
    assert!(one.iter().all(|object| object["kind"] != "PodDisruptionBudget"));
    let three = objects(NAMESPACE, &[MINIMAL, &["--set", "replicaCount=3"]].concat());
    assert_eq!(only(&three, "PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
    let deployment = only(&three, "Deployment");
    let spread = &deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0];
    assert_eq!(
        (&spread["topologyKey"], &spread["whenUnsatisfiable"]),
        (&json!("kubernetes.io/hostname"), &json!("ScheduleAnyway"))
    );
    assert_eq!(spread["labelSelector"], deployment["spec"]["selector"]);
}

/// The operator reads frpc's settings only when it starts, but reads the token again whenever it changes.
#[test]
fn pods_are_made_anew_for_frpcs_settings_and_not_for_the_token() {
    let template = |more: &[&str]| {
        let objects = objects(NAMESPACE, &[MINIMAL, more].concat());
        only(&objects, "Deployment")["spec"]["template"].clone()
    };
    let [low, high] = ["low", "high"].map(|class| template(&["--set", &format!("frpc.priorityClassName={class}")]));
    assert_ne!(low, high);
    assert_eq!(template(&[]), template(&["--set", "flyApiToken=fo1_rotated"]));
}

/// Two releases in one cluster share no object if they serve different classes. If both serve one class, they share the
/// objects that are named after it, and helm refuses the second release.
#[test]
fn releases_live_side_by_side_if_their_classes_differ() {
    let names = |namespace: &str, class: &str| -> BTreeSet<String> {
        let objects = objects(namespace, &[MINIMAL, &["--set", &format!("loadBalancerClass={class}")]].concat());
        let key = |object: &Value| {
            let Value::Object(metadata) = &object["metadata"] else { panic!("{object}") };
            let text = |key| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
            format!("{} {} {}", object["kind"].as_str().unwrap_or_default(), text("namespace"), text("name"))
        };
        objects.iter().map(key).collect()
    };
    let one = names("one", "a/lb");
    assert_eq!(one.intersection(&names("two", "b/lb")).count(), 0);
    let shared = names("two", "a/lb");
    let shared: Vec<&String> = one.intersection(&shared).collect();
    let expected =
        ["ClusterRole  a:lb", "ClusterRoleBinding  a:lb", "Role kube-system a:lb", "RoleBinding kube-system a:lb"];
    assert_eq!(shared, expected);
}

/// YAML takes some names for numbers if they are not quoted.
#[test]
fn names_are_texts_whatever_they_look_like() {
    let long = "a.".repeat(26) + "a";
    for release in ["123", "1e3", &long] {
        let values = ["--set-string", "serviceAccount.name=1,priorityClassName=2"];
        let text = helm(&[&["template", release, CHART, "--namespace", "0123"], MINIMAL, &values].concat());
        let objects = yaml::documents(&text.expect("it renders"));
        for object in &objects {
            let name = object["metadata"]["name"].as_str().unwrap_or_else(|| panic!("{object:#}"));
            assert!(name.len() <= 63 && name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
            let namespace = &object["metadata"]["namespace"];
            assert!(namespace.is_string() || namespace.is_null(), "{object:#}");
            let labels = object["metadata"]["labels"].as_object().expect("labels");
            assert!(labels.values().all(Value::is_string), "{object:#}");
            assert_eq!(labels["app.kubernetes.io/instance"], release);
        }
        let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
        assert!(pod["serviceAccountName"].is_string() && pod["priorityClassName"].is_string(), "{pod:#}");
    }
}
