//! As a pod: the API server from two variables, the rest from where the ServiceAccount is mounted.

use std::fs;

use lab::homelab::Homelab;

use crate::client::assert_answers;
use crate::{DEADLINE, binary};

/// The kubelet renews the token; who holds on to the first one is refused after an hour.
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
    assert_eq!(crate::objects(&lab).len(), 3, "in the namespace of the pod");
}
