//! The lab's nodes, and their work with pods.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Namespace, http_get, is_ready, state};

/// A config for frpc. Its own web server answers whether it has a connection to frps or not.
fn frpc_toml(port: u16) -> String {
    format!(
        "serverAddr = \"127.0.0.1\"\nserverPort = 1\nloginFailExit = false\nwebServer.addr = \"0.0.0.0\"\nwebServer.port = {port}\n"
    )
}

fn address_inside(paper: &str, port: u16) -> SocketAddr {
    let [_, _, high, low] = paper.parse::<Ipv4Addr>().expect("an address").octets();
    SocketAddr::from((Ipv4Addr::new(127, 100, high, low), port))
}

#[test]
fn a_pod_runs_frpc_with_its_configuration() {
    let namespace = Namespace::shared();
    namespace.create("configmaps", json!({"metadata": {"name": "frpc"}, "data": {"frpc.toml": frpc_toml(7400)}}));
    let container = json!({
        "image": "fatedier/frpc:v0.71.0",
        "volumeMounts": [{"name": "config", "mountPath": "/etc/frp"}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 7400}, "periodSeconds": 1},
    });
    namespace.pod("web", container, json!({"volumes": [{"name": "config", "configMap": {"name": "frpc"}}]}));
    let pod = namespace.wait_pod("web", is_ready);
    assert_eq!(pod["status"]["phase"], "Running");
    assert!(!state(&pod)["running"]["startedAt"].is_null());
    let paper = pod["status"]["podIP"].as_str().expect("an address");
    assert!(paper.starts_with("10.244."), "{paper}");
    assert!(http_get(address_inside(paper, 7400)).is_some());

    namespace.kube().delete(&namespace.path("pods/web")).expect("deleted");
    namespace.wait_gone("pods/web");
    assert!(http_get(address_inside(paper, 7400)).is_none());
}

#[test]
fn a_probe_that_fails_keeps_a_pod_from_being_ready() {
    let namespace = Namespace::shared();
    // Without this line frpc listens at its default, which is another address than the pod's.
    let toml = frpc_toml(7401).replace("webServer.addr = \"0.0.0.0\"\n", "");
    namespace.create("configmaps", json!({"metadata": {"name": "frpc"}, "data": {"frpc.toml": toml}}));
    let container = json!({
        "image": "frpc",
        "volumeMounts": [{"name": "config", "mountPath": "/etc/frp"}],
        "startupProbe": {"tcpSocket": {"port": 7401}, "periodSeconds": 1, "failureThreshold": 1},
    });
    let spec =
        json!({"volumes": [{"name": "config", "configMap": {"name": "frpc"}}], "terminationGracePeriodSeconds": 1});
    namespace.pod("web", container, spec);
    let pod = namespace.wait_pod("web", |pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64() > Some(1));
    assert!(!is_ready(&pod));
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["message"];
    assert!(last.as_str().is_some_and(|message| message.starts_with("Startup probe failed")), "{last}");
}

#[test]
fn a_probe_may_be_a_command_where_the_image_has_a_shell() {
    let namespace = Namespace::shared();
    let toml = "serverAddr = \"127.0.0.1\"\nserverPort = 1\nloginFailExit = false\n[webServer]\naddr = \"127.0.0.1\"\nport = 7405\nuser = \"{{ .Envs.HOSTNAME }}\"\n";
    namespace.create("configmaps", json!({"metadata": {"name": "frpc"}, "data": {"frpc.toml": toml}}));
    let volumes = json!({"volumes": [{"name": "config", "configMap": {"name": "frpc"}}]});
    let probed = |image: &str, probe: &str, script: &str| {
        json!({
            "image": image,
            "volumeMounts": [{"name": "config", "mountPath": "/etc/frp"}],
            probe: {"exec": {"command": ["sh", "-c", script]}, "periodSeconds": 1, "failureThreshold": 1},
        })
    };
    // Two pods listen at one port, each at its own 127.0.0.1.
    let status = "frpc status -c /etc/frp/frpc.toml";
    for name in ["one", "two"] {
        namespace.pod(name, probed("frpc", "readinessProbe", &format!("{status} | grep Proxy")), volumes.clone());
        namespace.wait_pod(name, is_ready);
    }
    let unconnected = format!("{status} | grep running");
    for (name, image, script, why) in [
        ("bad", "frpc", unconnected.as_str(), "ended with exit status: 1"),
        ("none", "echo", "true", "exec: \"sh\": executable file not found in $PATH"),
    ] {
        namespace.pod(name, probed(image, "livenessProbe", script), volumes.clone());
        let ended = |pod: &Value| pod["status"]["containerStatuses"][0]["lastState"]["terminated"].clone();
        let pod = namespace.wait_pod(name, |pod| !ended(pod).is_null());
        let message = ended(&pod)["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.starts_with("Liveness probe failed") && message.contains(why), "{name}: {message}");
    }
}

/// It serves on while the hook runs, which is cut short at the end of the grace period.
#[test]
fn a_pod_ends_after_its_pre_stop_hook() {
    let namespace = Namespace::shared();
    namespace.create("configmaps", json!({"metadata": {"name": "frpc"}, "data": {"frpc.toml": frpc_toml(7404)}}));
    namespace.create("configmaps", json!({"metadata": {"name": "hold"}, "data": {"until": "later"}}));
    let volumes =
        json!([{"name": "config", "configMap": {"name": "frpc"}}, {"name": "hold", "configMap": {"name": "hold"}}]);
    let container = |hook: &str| {
        json!({
            "image": "frpc",
            "volumeMounts": [{"name": "config", "mountPath": "/etc/frp"}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 7404}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", hook]}}},
        })
    };
    let delete = |name: &str| namespace.kube().delete(&namespace.path(&format!("pods/{name}"))).expect("deleted");
    let hook = "while frpc status -c /etc/frp/frpc.toml; do sleep 0.1; done";
    namespace.pod("web", container(hook), json!({"volumes": volumes, "terminationGracePeriodSeconds": 300}));
    let pod = namespace.wait_pod("web", is_ready);
    let address = address_inside(pod["status"]["podIP"].as_str().expect("an address"), 7404);
    delete("web");
    let pod = namespace.wait_pod("web", |pod| !pod["metadata"]["deletionTimestamp"].is_null());
    assert!(!state(&pod)["running"].is_null() && http_get(address).is_some(), "{pod:#}");
    let mut frpc = TcpStream::connect(address).expect("it listens");
    write!(frpc, "POST /api/stop HTTP/1.1\r\nHost: frpc\r\nContent-Length: 0\r\n\r\n").expect("it is asked to stop");
    namespace.wait_gone("pods/web");
    assert!(http_get(address).is_none());

    namespace.pod("hangs", container("sleep 600"), json!({"volumes": volumes, "terminationGracePeriodSeconds": 1}));
    namespace.wait_pod("hangs", is_ready);
    delete("hangs");
    namespace.wait_gone("pods/hangs");
}

#[test]
fn an_image_takes_its_time() {
    let namespace = Namespace::shared();
    let pull = Duration::from_secs(2);
    namespace.cluster.pull_images_in(&namespace.name, pull);
    let asked = Instant::now();
    namespace.pod("web", json!({"image": "echo", "ports": [{"containerPort": 8080}]}), json!({}));
    namespace.wait_pod("web", is_ready);
    assert!(asked.elapsed() >= pull, "{:?}", asked.elapsed());
}

#[test]
fn environment_and_files_reach_the_container() {
    let namespace = Namespace::shared();
    namespace.create("secrets", json!({"metadata": {"name": "keys"}, "stringData": {"port": "7402", "user": "admin"}}));
    namespace.create("configmaps", json!({"metadata": {"name": "settings"}, "data": {"PASSWORD": "secret"}}));
    // frpc renders its configuration with its environment, so its answers show both.
    let toml = frpc_toml(7402).replace("7402", "{{ .Envs.PORT }}")
        + "webServer.user = \"{{ .Envs.LOGIN }}\"\nwebServer.password = \"{{ .Envs.FRPC_PASSWORD }}\"\n";
    namespace.create("configmaps", json!({"metadata": {"name": "frpc"}, "data": {"config": toml}}));
    let container = json!({
        "image": "frpc",
        "command": ["/usr/bin/frpc", "-c", "$(FILE)"],
        "env": [
            {"name": "PORT", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "port"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "LOGIN", "value": "user-of-$(POD)"},
            {"name": "FILE", "value": "/config/sub/frpc.toml"},
        ],
        "envFrom": [{"prefix": "FRPC_", "configMapRef": {"name": "settings"}}],
        "volumeMounts": [{"name": "all", "mountPath": "/config"}],
        // The header is `user-of-web:secret`. Without it, or with another, frpc answers 401.
        "readinessProbe": {"periodSeconds": 1, "httpGet": {"path": "/api/status", "port": "web", "httpHeaders": [
            {"name": "Authorization", "value": "Basic dXNlci1vZi13ZWI6c2VjcmV0"},
        ]}},
        "ports": [{"name": "web", "containerPort": 7402}],
    });
    let sources = json!([
        {"configMap": {"name": "frpc", "items": [{"key": "config", "path": "sub/frpc.toml"}]}},
        {"secret": {"name": "keys"}},
    ]);
    namespace.pod("web", container, json!({"volumes": [{"name": "all", "projected": {"sources": sources}}]}));
    namespace.wait_pod("web", is_ready);
}

#[test]
fn a_pod_waits_for_a_missing_secret() {
    let namespace = Namespace::shared();
    let container = json!({"image": "echo", "volumeMounts": [{"name": "keys", "mountPath": "/keys"}]});
    namespace.pod("mount", container, json!({"volumes": [{"name": "keys", "secret": {"secretName": "late"}}]}));
    let env = json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "late", "key": "key"}}}]);
    namespace.create("configmaps", json!({"metadata": {"name": "frpc"}, "data": {"frpc.toml": frpc_toml(7403)}}));
    let container = json!({"image": "frpc", "env": env, "volumeMounts": [{"name": "config", "mountPath": "/etc/frp"}]});
    namespace.pod("env", container, json!({"volumes": [{"name": "config", "configMap": {"name": "frpc"}}]}));

    for (pod, reason) in [("mount", "ContainerCreating"), ("env", "CreateContainerConfigError")] {
        let pod = namespace.wait_pod(pod, |pod| !state(pod)["waiting"]["message"].is_null());
        assert_eq!(state(&pod)["waiting"]["reason"], reason);
        assert!(state(&pod)["waiting"]["message"].to_string().contains("late\\\" not found"), "{}", state(&pod));
        assert_eq!(pod["status"]["phase"], "Pending");
    }
    namespace.create("secrets", json!({"metadata": {"name": "late"}, "stringData": {"other": "x"}}));
    namespace.wait_pod("mount", is_ready);
    let missing = "couldn't find key key in Secret";
    namespace.wait_pod("env", |pod| state(pod)["waiting"]["message"].to_string().contains(missing));
    namespace
        .kube()
        .merge_patch(&namespace.path("secrets/late"), &json!({"stringData": {"key": "x"}}))
        .expect("patched");
    namespace.wait_pod("env", is_ready);
}

#[test]
fn a_container_that_keeps_failing_is_restarted_with_a_backoff() {
    let namespace = Namespace::shared();
    namespace.pod("web", json!({"image": "frpc", "args": ["-c", "/missing.toml"]}), json!({}));
    let pod = namespace.wait_pod("web", |pod| state(pod)["waiting"]["reason"] == "CrashLoopBackOff");
    assert!(!is_ready(&pod));
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    namespace.wait_pod("web", |pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(3));
    namespace.wait_log("web", "/missing.toml");
}

#[test]
fn a_pod_that_is_not_to_be_restarted_fails_or_succeeds() {
    let namespace = Namespace::shared();
    for (name, args, phase) in [("version", json!(["--version"]), "Succeeded"), ("bad", json!(["--bad"]), "Failed")] {
        namespace.pod(name, json!({"image": "frpc", "args": args}), json!({"restartPolicy": "Never"}));
        namespace.wait_pod(name, |pod| pod["status"]["phase"] == phase);
    }
    namespace.wait_log("version", "0.71.0");
    namespace.pod(
        "old",
        json!({"image": "snowdreamtech/frpc:0.61.1", "args": ["--version"]}),
        json!({"restartPolicy": "Never"}),
    );
    namespace.wait_log("old", "0.61.1");
}

#[test]
fn an_unknown_image_cannot_be_pulled() {
    let namespace = Namespace::shared();
    for (name, image) in [("nginx", "nginx:1"), ("operator", "ghcr.io/zhming0/fly-tunnel-operator:1")] {
        // This cluster has no image of an operator either.
        namespace.pod(name, json!({"image": image}), json!({}));
        let pod = namespace.wait_pod(name, |pod| state(pod)["waiting"]["reason"] == "ErrImagePull");
        assert_eq!(pod["status"]["phase"], "Pending");
        namespace.kube().delete(&namespace.path(&format!("pods/{name}"))).expect("deleted");
        namespace.wait_gone(&format!("pods/{name}"));
    }
}

#[test]
fn a_mounted_config_map_follows_its_source() {
    let namespace = Namespace::shared();
    namespace.create("configmaps", json!({"metadata": {"name": "frpc"}, "data": {"frpc.toml": frpc_toml(7404)}}));
    let container = json!({
        "image": "frpc",
        "volumeMounts": [{"name": "config", "mountPath": "/etc/frp"}],
        // frpc answers this request after reading its file as it is now.
        "readinessProbe": {"httpGet": {"path": "/api/reload?strictConfig=true", "port": 7404}, "periodSeconds": 1},
    });
    namespace.pod("web", container, json!({"volumes": [{"name": "config", "configMap": {"name": "frpc"}}]}));
    namespace.wait_pod("web", is_ready);
    let data = |toml: &str| json!({"data": {"frpc.toml": toml}});
    let path = namespace.path("configmaps/frpc");
    namespace.kube().merge_patch(&path, &data("nonsense = true\n")).expect("patched");
    namespace.wait_pod("web", |pod| !is_ready(pod));
    namespace.kube().merge_patch(&path, &data(&frpc_toml(7404))).expect("patched");
    namespace.wait_pod("web", is_ready);
}

#[test]
fn what_the_lab_cannot_run_says_so() {
    let namespace = Namespace::shared();
    namespace.pod("grpc", json!({"image": "echo", "livenessProbe": {"grpc": {"port": 1}}}), json!({}));
    let pod = namespace.wait_pod("grpc", |pod| state(pod)["waiting"]["reason"] == "CreateContainerConfigError");
    assert!(state(&pod)["waiting"]["message"].to_string().contains("liveness"), "{}", state(&pod));
    namespace.pod("init", json!({"image": "echo"}), json!({"initContainers": [{"name": "first", "image": "echo"}]}));
    namespace.wait_pod("init", |pod| pod["status"]["reason"] == "NotInTheLab");
}
