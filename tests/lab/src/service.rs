//! Services for tests to expose, each with a backend that answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::homelab::Homelab;

/// A Service that is about to be created, with a Deployment of one `echo` behind it.
pub struct ServiceBuilder<'a> {
    lab: &'a Homelab,
    namespace: String,
    name: String,
    class: Option<String>,
    ports: Vec<(u16, &'static str)>,
    annotations: BTreeMap<String, String>,
    spec: Value,
}

impl<'a> ServiceBuilder<'a> {
    pub(crate) fn new(lab: &'a Homelab, name: &str) -> ServiceBuilder<'a> {
        ServiceBuilder {
            lab,
            namespace: lab.namespace().to_owned(),
            name: name.to_owned(),
            class: Some(lab.class()),
            ports: Vec::new(),
            annotations: BTreeMap::new(),
            spec: json!({}),
        }
    }

    /// Puts it into another namespace than the lab's own.
    pub fn namespace(self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self }
    }

    /// Gives it another load balancer class, or none.
    pub fn class(self, class: Option<&str>) -> Self {
        Self { class: class.map(str::to_owned), ..self }
    }

    /// Adds a TCP port.
    pub fn port(mut self, port: u16) -> Self {
        self.ports.push((port, "TCP"));
        self
    }

    /// Adds a UDP port.
    pub fn udp_port(mut self, port: u16) -> Self {
        self.ports.push((port, "UDP"));
        self
    }

    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets other fields of `spec`.
    pub fn spec(self, spec: Value) -> Self {
        Self { spec, ..self }
    }

    /// Creates the Service and its backend.
    ///
    /// # Panics
    /// It panics if the API server refuses one of them.
    pub fn create(self) -> ServiceHandle<'a> {
        let kube = self.lab.cluster().kube();
        let labels = json!({ "app": self.name });
        let mut spec = json!({
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": false,
            "selector": labels,
            "ports": service_ports(&self.ports),
        });
        if let Some(class) = self.class {
            spec["loadBalancerClass"] = class.into();
        }
        for (field, value) in self.spec.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name, "annotations": self.annotations },
            "spec": spec,
        });
        let containers = self
            .ports
            .iter()
            .map(|(port, protocol)| json!({ "containerPort": target_port(*port), "protocol": protocol }));
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": self.name },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [
                        { "name": "echo", "image": "echo", "ports": containers.collect::<Vec<_>>() },
                    ] },
                },
            },
        });
        let namespace = &self.namespace;
        let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
        kube.create(&deployments, &deployment).expect("the backend is accepted");
        kube.create(&format!("/api/v1/namespaces/{namespace}/services"), &service).expect("the Service is accepted");
        ServiceHandle { lab: self.lab, namespace: self.namespace, name: self.name }
    }
}

/// The value of `spec.ports`: each port has a name of its own and leads to a port of the backend.
fn service_ports(ports: &[(u16, &str)]) -> Value {
    let entry = |(port, protocol): &(u16, &str)| {
        json!({
            "name": format!("{}-{port}", protocol.to_lowercase()),
            "port": port,
            "targetPort": target_port(*port),
            "protocol": protocol,
        })
    };
    ports.iter().map(entry).collect()
}

/// The backend's port for a port of the Service. It is the same, unless the process would need a privilege to bind it.
fn target_port(port: u16) -> u16 {
    if port < 1024 { port + 10_000 } else { port }
}

/// A Service that was created.
pub struct ServiceHandle<'a> {
    lab: &'a Homelab,
    pub namespace: String,
    pub name: String,
}

impl ServiceHandle<'_> {
    /// The Service's path in the API.
    pub fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/services/{}", self.namespace, self.name)
    }

    /// The Service as it is now; null if it is gone.
    pub fn object(&self) -> Value {
        self.lab.cluster().kube().find(&self.path()).expect("the API server answers").unwrap_or_default()
    }

    /// Waits for the address that it shows.
    ///
    /// # Panics
    /// It panics if the Service shows none after `deadline`.
    pub fn address(&self, deadline: Duration) -> IpAddr {
        self.lab.address_of(&self.namespace, &self.name, deadline)
    }

    /// Replaces its TCP ports, and adds to the backend those that it lacks.
    pub fn set_ports(&self, ports: &[u16]) {
        let tcp: Vec<(u16, &str)> = ports.iter().map(|port| (*port, "TCP")).collect();
        let kube = self.lab.cluster().kube();
        let containers = ports.iter().map(|port| json!({ "containerPort": target_port(*port) }));
        let containers = json!([{ "name": "echo", "image": "echo", "ports": containers.collect::<Vec<_>>() }]);
        let deployment = format!("/apis/apps/v1/namespaces/{}/deployments/{}", self.namespace, self.name);
        let template = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
        kube.merge_patch(&deployment, &template).expect("the backend is changed");
        let ports = json!({ "spec": { "ports": service_ports(&tcp) } });
        kube.merge_patch(&self.path(), &ports).expect("the Service is changed");
    }

    /// Deletes the Service, and does not wait until it is gone.
    pub fn delete(&self) {
        self.lab.cluster().kube().delete(&self.path()).expect("the Service is deleted");
    }

    /// Waits until it is gone.
    ///
    /// # Panics
    /// It panics if the Service is still there after `deadline`.
    pub fn wait_gone(&self, deadline: Duration) {
        self.lab.cluster().kube().wait_until(&self.path(), deadline, |service| service.is_none());
    }
}
