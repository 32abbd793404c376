//! The operator as a pod has it: two variables name the API server, and the rest is where the ServiceAccount is
//! mounted.

use std::fs;

use lab::homelab::Homelab;

use crate::support::client::assert_answers;
use crate::support::inventory::objects;
use crate::support::{DEADLINE, binary};

/// The kubelet renews the token. An operator that kept the first one would be refused after an hour.
#[test]
fn a_service_account_is_read_where_it_is_mounted_and_again_when_it_changes() {
    let lab = Homelab::new();
    let mounted = lab.directory().join("mounted");
    fs::create_dir(&mounted).expect("a folder");
    let write = |name: &str, text: &str| fs::write(mounted.join(name), text).expect("a file");
    write("ca.crt", lab.cluster().authority().certificate_pem());
    write("namespace", lab.operator_namespace());
    write("token", "of an hour ago\n");
    let server = lab.api_server();
    let _operator = lab
        .operator(binary())
        .without("KUBECONFIG")
        .without("OPERATOR_NAMESPACE")
        .env("KUBERNETES_SERVICE_HOST", &server.ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", &server.port().to_string())
        .env("SERVICE_ACCOUNT_DIR", mounted.to_str().expect("a path in UTF-8"))
        .start();
    lab.wait_requests(DEADLINE, |requests| requests.iter().any(|request| request.status == Some(401)));
    write("token", lab.operator_account().token());
    let web = lab.service("web").port(8080).create();
    assert_answers(web.address(DEADLINE), 8080, "web");
    assert_eq!(objects(&lab).len(), 3, "in the namespace of the pod");
}
