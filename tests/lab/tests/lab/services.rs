//! The service proxy and the echo backend.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{DEADLINE, Namespace, http_get, is_ready, wait_for};

/// Makes a Deployment of `echo` and a Service of the same name. Gives the ClusterIP.
fn service(namespace: &Namespace, name: &str, replicas: u32, ports: Value) -> std::net::IpAddr {
    let container_ports: Vec<Value> = ports
        .as_array()
        .expect("a list")
        .iter()
        .map(|port| json!({"containerPort": port["port"], "protocol": port.get("protocol").unwrap_or(&json!("TCP"))}))
        .collect();
    let labels = json!({"app": name});
    let path = format!("/apis/apps/v1/namespaces/{}/deployments", namespace.name);
    let deployment = json!({"metadata": {"name": name}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "echo", "image": "echo", "ports": container_ports}],
        }},
    }});
    namespace.kube().create(&path, &deployment).expect("the Deployment is valid");
    let service = json!({"metadata": {"name": name}, "spec": {"selector": labels, "ports": ports}});
    let service = namespace.create("services", service);
    service["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok()).expect("a ClusterIP")
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = wait_for(|| TcpStream::connect(address).ok(), || format!("listener at {address}"));
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream
}

#[test]
fn a_service_reaches_each_of_its_pods() {
    let namespace = Namespace::shared();
    let ip = service(&namespace, "web", 2, json!([{"port": 8080}]));
    let mut seen = std::collections::BTreeSet::new();
    wait_for(
        || {
            seen.extend(http_get((ip, 8080).into()));
            (seen.len() == 2).then_some(())
        },
        || "answer of each pod".into(),
    );
    for pod in namespace.kube().list(&namespace.path("pods")).expect("listed") {
        let name = format!("{}\n", pod["metadata"]["name"].as_str().expect("a name"));
        assert!(seen.contains(&name), "{name} is not among {seen:?}");
    }
}

#[test]
fn a_service_without_ready_endpoints_refuses_connections() {
    let namespace = Namespace::shared();
    let ip = service(&namespace, "web", 1, json!([{"port": 8080}]));
    drop(connect((ip, 8080).into()));
    let scale = format!("/apis/apps/v1/namespaces/{}/deployments/web", namespace.name);
    namespace.kube().merge_patch(&scale, &json!({"spec": {"replicas": 0}})).expect("patched");
    let refused = || match TcpStream::connect((ip, 8080)) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Some(()),
        _ => None,
    };
    wait_for(refused, || "refusal".into());
    namespace.kube().merge_patch(&scale, &json!({"spec": {"replicas": 1}})).expect("patched");
    drop(connect((ip, 8080).into()));
}

#[test]
fn what_is_no_http_is_echoed() {
    let namespace = Namespace::shared();
    let ip = service(&namespace, "web", 1, json!([{"port": 8080}]));
    let mut stream = connect((ip, 8080).into());
    let mut writer = stream.try_clone().expect("a socket");
    let sent: Vec<u8> = (0..20u32 << 20).map(|n| (n % 251) as u8).collect();
    let copy = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&copy).expect("written");
        writer.shutdown(Shutdown::Write).expect("shut down");
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("read");
    writing.join().expect("no panic");
    assert!(received == sent, "{} bytes came back of {}", received.len(), sent.len());
}

#[test]
fn an_endless_answer_does_not_end() {
    let namespace = Namespace::shared();
    let ip = service(&namespace, "web", 1, json!([{"port": 8080}]));
    let mut stream = connect((ip, 8080).into());
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n").expect("written");
    let mut buffer = vec![0; 10 << 20];
    stream.read_exact(&mut buffer).expect("ten megabytes, and more");
    // Another client is served while that one has stopped reading.
    assert!(http_get((ip, 8080).into()).is_some());
}

#[test]
fn udp_is_echoed_on_a_port_of_its_own() {
    let namespace = Namespace::shared();
    let ports = json!([{"name": "tcp", "port": 8053}, {"name": "udp", "port": 8053, "protocol": "UDP"}]);
    let ip = service(&namespace, "dns", 1, ports);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
    let mut buffer = [0; 100];
    let answer = || {
        socket.send_to(b"question", (ip, 8053)).ok()?;
        let (length, from) = socket.recv_from(&mut buffer).ok()?;
        Some((buffer[..length].to_vec(), from))
    };
    let answer = wait_for(answer, || "answer over UDP".into());
    assert_eq!(answer, (b"question".to_vec(), (ip, 8053).into()));
    assert!(http_get((ip, 8053).into()).is_some());
}

#[test]
fn a_port_by_name_goes_to_the_containers_port() {
    let namespace = Namespace::shared();
    let container = json!({"image": "echo", "ports": [{"name": "http", "containerPort": 9090}]});
    namespace.pod("web", container, json!({}));
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 8081, "targetPort": "http"}]});
    let service = namespace.create("services", json!({"metadata": {"name": "web"}, "spec": spec}));
    let ip: std::net::IpAddr =
        service["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok()).expect("an address");
    namespace.wait_pod("web", is_ready);
    let answer = wait_for(|| http_get((ip, 8081).into()), || "answer".into());
    assert_eq!(answer, "web\n");
}
