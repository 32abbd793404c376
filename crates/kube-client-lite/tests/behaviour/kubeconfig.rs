//! Kubeconfigs that the client understands, and its messages about others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube_client_lite::{Client, ClientOptions, Config, Sources};

use crate::setup::{self, Directory, client_of, fixture, kubeconfig};

fn load(text: &str, context: Option<&str>) -> Result<Config, String> {
    let directory = Directory::new();
    let file = directory.file("config", text);
    Config::load(&Sources { kubeconfig: Some(&file), context, ..Sources::default() }).map_err(|error| {
        let message = error.to_string();
        assert!(message.contains(&file), "{message}");
        message.replace(&format!(" in {file}"), "").replace(&format!("{file}: "), "")
    })
}

fn refusal(cluster: &str, user: &str) -> String {
    load(&kubeconfig(cluster, user), None).expect_err("a refusal")
}

const SERVER: &str = "server: 'https://10.0.0.1:6443'";

#[test]
fn the_context_chooses_server_and_namespace() {
    let text = "\
current-context: one
contexts:
- {name: one, context: {cluster: first, namespace: shop}}
- {name: two, context: {cluster: second}}
clusters:
- {name: first, cluster: {server: 'https://10.0.0.1:6443/'}}
- {name: second, cluster: {server: 'https://[fd00::1]:6443/k8s/c-1'}}
";
    let one = load(text, None).expect("a usable kubeconfig");
    assert_eq!((one.server(), one.namespace()), ("https://10.0.0.1:6443", Some("shop")));
    let two = load(text, Some("two")).expect("a usable kubeconfig");
    assert_eq!((two.server(), two.namespace()), ("https://[fd00::1]:6443/k8s/c-1", None));
    assert_eq!(load(text, Some("three")).expect_err("a refusal"), "there is no context \"three\"");
}

#[test]
fn a_server_without_a_scheme_gets_the_one_that_kubectl_takes() {
    let server = |settings: &str| load(&kubeconfig(settings, ""), None).expect("usable").server().to_owned();
    assert_eq!(server("server: 'localhost:8080'"), "http://localhost:8080");
    assert_eq!(server("server: 'localhost:8080', insecure-skip-tls-verify: true"), "http://localhost:8080");
}

#[test]
fn several_files_are_one() {
    let directory = Directory::new();
    let first = directory.file("first", "current-context: test\nusers: [{name: u, user: {token: a}}]");
    let second = directory.file("second", kubeconfig(SERVER, "as: root"));
    let list = format!("/nowhere:{first}::{second}");
    let config = setup::load(&list).expect("the user of the first file impersonates nobody");
    assert_eq!(config.server(), "https://10.0.0.1:6443");
}

#[test]
fn certificates_may_stand_in_the_file_itself() {
    let data = |name: &str| {
        let text = std::fs::read(fixture(name)).expect("a fixture");
        STANDARD.encode(text)
    };
    let cluster = format!("{SERVER}, certificate-authority-data: {}", data("ca.crt"));
    let user = format!("client-certificate-data: {}, client-key-data: {}", data("sec1.crt"), data("sec1.key"));
    let config = load(&kubeconfig(&cluster, &user), None).expect("a usable kubeconfig");
    assert!(Client::new(config, &ClientOptions::new("test/1")).is_ok());
}

#[test]
fn secrets_are_not_printed() {
    let config = load(&kubeconfig(SERVER, "token: sesame"), None).expect("a usable kubeconfig");
    assert!(!format!("{config:?}").contains("sesame"));
    let client = client_of(config);
    assert!(!format!("{client:?}").contains("sesame"));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for setting in [
        "auth-provider: {name: oidc}",
        "username: joe",
        "password: sesame",
        "as: root",
        "as-uid: '0'",
        "as-groups: [admins]",
        "as-user-extra: {a: [b]}",
    ] {
        let (name, _) = setting.split_once(':').expect("a setting");
        assert_eq!(refusal(SERVER, setting), format!("{name} of user \"u\" is not supported"));
    }
    for url in ["socks5://127.0.0.1:1080", "https://127.0.0.1:1080"] {
        assert_eq!(
            refusal(&format!("{SERVER}, proxy-url: '{url}'"), ""),
            "a proxy-url that is not http:// of cluster \"k\" is not supported"
        );
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let table = [
        ("", "", "cluster \"k\" has no server"),
        ("server: 'ftp://a'", "", "the server \"ftp://a\" of cluster \"k\" is neither http nor https"),
        ("server: 'https://a b'", "", "the server \"https://a b\" of cluster \"k\" is not a URL"),
        ("server: 'https://a/?b=c'", "", "the server \"https://a/?b=c\" of cluster \"k\" has a query"),
        ("server: 'https://joe:sesame@a'", "", "the server of cluster \"k\" has credentials in its URL"),
        (
            "server: 'https://a', certificate-authority: x, certificate-authority-data: eA==",
            "",
            "certificate-authority and certificate-authority-data are both set for cluster \"k\"",
        ),
        (
            "server: 'https://a', certificate-authority-data: eA==, insecure-skip-tls-verify: true",
            "",
            "certificate-authority and insecure-skip-tls-verify are both set for cluster \"k\"",
        ),
        (
            "server: 'https://a', tls-server-name: 'a b'",
            "",
            "the tls-server-name \"a b\" of cluster \"k\" is not a name",
        ),
        (
            "server: 'https://a', tls-server-name: 'a/b'",
            "",
            "the tls-server-name \"a/b\" of cluster \"k\" is not a name",
        ),
        (SERVER, "client-certificate-data: eA==", "user \"u\" has a client-certificate and no client-key"),
        (SERVER, "client-key-data: eA==", "user \"u\" has a client-key and no client-certificate"),
    ];
    for (cluster, user, expected) in table {
        assert_eq!(refusal(cluster, user), expected);
    }
    let message = refusal(SERVER, "client-certificate-data: 'a%', client-key-data: eA==");
    assert!(message.starts_with("client-certificate-data of user \"u\" is not base64: "), "{message}");
    let message = refusal(SERVER, "client-certificate: /nowhere/a, client-key: /nowhere/b");
    assert!(message.starts_with("cannot read the client-certificate /nowhere/a of user \"u\": "), "{message}");
}

#[test]
fn a_name_that_leads_nowhere_is_refused() {
    let text = "contexts: [{name: a, context: {cluster: k, user: u}}]\n";
    let with_cluster = format!("{text}clusters: [{{name: k, cluster: {{server: 'https://a'}}}}]\n");
    assert_eq!(load(text, None).expect_err("a refusal"), "there is no current-context, and no context was chosen");
    assert_eq!(load(text, Some("a")).expect_err("a refusal"), "there is no cluster \"k\"");
    assert_eq!(load(&with_cluster, Some("a")).expect_err("a refusal"), "there is no user \"u\"");
}
