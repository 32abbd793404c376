//! Makes a [`Config`] of one context of a kubeconfig: looks up its cluster and its user, reads the files that they name,
//! and refuses settings that contradict each other or are not supported.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::Proxy;
use ureq::http::Uri;
use ureq::http::uri::Scheme;

use serde_json::Value;

use super::kubeconfig::{Cluster, Exec, Kubeconfig, User, Variable};
use super::{Config, ConfigError};
use crate::credentials::{Credentials, TokenFile};
use crate::exec::{API_VERSIONS, ClusterInfo, Plugin, Settings};
use crate::login::Secret;
use crate::tls::{ClientIdentity, IdentityFiles, TlsSettings};

pub(super) fn resolve(mut kubeconfig: Kubeconfig, context: Option<&str>) -> Result<Config, ConfigError> {
    let origin = std::mem::take(&mut kubeconfig.origin);
    resolve_from(kubeconfig, context, &origin).map_err(|error| error.of(&origin))
}

fn resolve_from(mut kubeconfig: Kubeconfig, context: Option<&str>, origin: &str) -> Result<Config, ConfigError> {
    let name = context.unwrap_or(&kubeconfig.current_context);
    if name.is_empty() {
        return Err(ConfigError::invalid("there is no current-context, and no context was chosen"));
    }
    let context = kubeconfig.contexts.remove(name).ok_or_else(|| missing("context", name))?;
    let cluster = kubeconfig.clusters.remove(&context.cluster).ok_or_else(|| missing("cluster", &context.cluster))?;
    let user = match context.user.as_str() {
        "" => User::default(),
        user => kubeconfig.users.remove(user).ok_or_else(|| missing("user", user))?,
    };
    let user_place = format!("user {:?}", context.user);
    let cluster_place = format!("cluster {:?}", context.cluster);
    refuse_unsupported(&user, &user_place)?;

    let tls = TlsSettings {
        origin: origin.to_owned(),
        authorities: authorities(&cluster, &cluster_place)?,
        client: client_identity(&user, &user_place)?,
        insecure: cluster.insecure_skip_tls_verify,
    };
    let server = server(&cluster.server, &cluster_place)?;
    let credentials = credentials(user, user_place, &cluster, &tls)?;
    // As kubectl does, we never send credentials in clear text.
    let is_encrypted = server.scheme() == Some(&Scheme::HTTPS);
    Ok(Config {
        tls_server_name: tls_server_name(&cluster.tls_server_name, &cluster_place)?,
        server: server.to_string().trim_end_matches('/').to_owned(),
        tls,
        proxy: proxy(&cluster.proxy_url, &cluster_place)?,
        credentials: if is_encrypted { credentials } else { Credentials::None },
        namespace: Some(context.namespace).filter(|namespace| !namespace.is_empty()),
    })
}

fn missing(kind: &str, name: &str) -> ConfigError {
    ConfigError::invalid(format!("there is no {kind} {name:?}"))
}

fn refuse_unsupported(user: &User, place: &str) -> Result<(), ConfigError> {
    let refused = [
        ("auth-provider", user.auth_provider.is_some()),
        ("username", !user.username.is_empty()),
        ("password", !user.password.is_empty()),
        ("as", !user.impersonate.is_empty()),
        ("as-uid", !user.as_uid.is_empty()),
        ("as-groups", !user.as_groups.is_empty()),
        ("as-user-extra", !user.as_user_extra.is_empty()),
    ];
    match refused.into_iter().find(|(_, is_set)| *is_set) {
        Some((setting, _)) => Err(ConfigError::unsupported(setting, place)),
        None => Ok(()),
    }
}

fn authorities(cluster: &Cluster, place: &str) -> Result<Option<Vec<u8>>, ConfigError> {
    let setting = Setting {
        name: "certificate-authority",
        place,
        file: &cluster.certificate_authority,
        data: &cluster.certificate_authority_data,
    };
    let authorities = setting.read()?;
    if authorities.is_some() && cluster.insecure_skip_tls_verify {
        return Err(ConfigError::invalid(format!(
            "certificate-authority and insecure-skip-tls-verify are both set for {place}"
        )));
    }
    Ok(authorities)
}

fn client_identity(user: &User, place: &str) -> Result<Option<ClientIdentity>, ConfigError> {
    let certificate = Setting {
        name: "client-certificate",
        place,
        file: &user.client_certificate,
        data: &user.client_certificate_data,
    };
    let key = Setting { name: "client-key", place, file: &user.client_key, data: &user.client_key_data };
    let files = IdentityFiles { certificates: certificate.path(), key: key.path() };
    match (certificate.read()?, key.read()?) {
        (None, None) => Ok(None),
        (Some(certificates), Some(key)) => Ok(Some(ClientIdentity { certificates, key, files })),
        (Some(_), None) => Err(ConfigError::invalid(format!("{place} has a client-certificate and no client-key"))),
        (None, Some(_)) => Err(ConfigError::invalid(format!("{place} has a client-key and no client-certificate"))),
    }
}

/// A setting in PEM. It may stand in a file or, in base64, in the kubeconfig itself.
struct Setting<'a> {
    name: &'static str,
    place: &'a str,
    file: &'a Path,
    data: &'a str,
}

impl Setting<'_> {
    /// The file that it stands in.
    fn path(&self) -> Option<PathBuf> {
        Some(self.file.to_owned()).filter(|file| !file.as_os_str().is_empty())
    }

    fn read(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        let Setting { name, place, file, data } = self;
        match (file.as_os_str().is_empty(), data.is_empty()) {
            (true, true) => Ok(None),
            (false, true) => ConfigError::read(file).map(Some).map_err(|error| error.named_by(name, place)),
            (true, false) => {
                let data: String = data.split_ascii_whitespace().collect();
                let decoded = STANDARD.decode(data);
                decoded
                    .map(Some)
                    .map_err(|error| ConfigError::invalid(format!("{name}-data of {place} is not base64: {error}")))
            }
            (false, false) => Err(ConfigError::invalid(format!("{name} and {name}-data are both set for {place}"))),
        }
    }
}

/// The URL of the server. Without a scheme it is `http`, as in kubectl, even where other settings speak of TLS.
fn server(text: &str, place: &str) -> Result<Uri, ConfigError> {
    let wrong = |reason: &str| ConfigError::invalid(format!("the server {text:?} of {place} {reason}"));
    if text.is_empty() {
        return Err(ConfigError::invalid(format!("{place} has no server")));
    }
    if text.contains('@') {
        return Err(ConfigError::invalid(format!("the server of {place} has credentials in its URL")));
    }
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
    if uri.scheme() != Some(&Scheme::HTTP) && uri.scheme() != Some(&Scheme::HTTPS) {
        return Err(wrong("is neither http nor https"));
    }
    if uri.query().is_some() {
        return Err(wrong("has a query"));
    }
    Ok(uri)
}

fn tls_server_name(name: &str, place: &str) -> Result<Option<Uri>, ConfigError> {
    if name.is_empty() {
        return Ok(None);
    }
    let host = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
    let url = format!("https://{host}").parse::<Uri>().ok().filter(|url| url.host() == Some(&host));
    let url = url.ok_or_else(|| ConfigError::invalid(format!("the tls-server-name {name:?} of {place} is not a name")));
    url.map(Some)
}

fn proxy(url: &str, place: &str) -> Result<Option<Proxy>, ConfigError> {
    if url.is_empty() {
        return Ok(None);
    }
    if !url.starts_with("http://") {
        return Err(ConfigError::unsupported("a proxy-url that is not http://", place));
    }
    Proxy::new(url).map(Some).map_err(|_| ConfigError::invalid(format!("the proxy-url of {place} is not a URL")))
}

/// The credentials of a user. Of several kubectl takes one, and so do we: a token file counts for more than a token,
/// which serves until the file can be read; both count for more than a plugin, and so does a client certificate.
fn credentials(user: User, place: String, cluster: &Cluster, tls: &TlsSettings) -> Result<Credentials, ConfigError> {
    let plugin = user.exec.map(|exec| plugin(exec, place, cluster, tls)).transpose()?;
    let token = Some(user.token).filter(|token| !token.is_empty()).map(Secret::new);
    if user.token_file != PathBuf::new() {
        return Ok(Credentials::TokenFile(TokenFile::new(user.token_file, token)));
    }
    Ok(match (token, plugin) {
        (Some(token), _) => Credentials::Token(token),
        (None, Some(plugin)) if tls.client.is_none() => Credentials::Plugin(Box::new(plugin)),
        (None, _) => Credentials::None,
    })
}

/// The plugin of a user, if it can be run without a person at a terminal.
fn plugin(exec: Exec, place: String, cluster: &Cluster, tls: &TlsSettings) -> Result<Plugin, ConfigError> {
    let Exec { api_version, command, args, env, install_hint, provide_cluster_info, interactive_mode } = exec;
    let wrong = |reason: String| Err(ConfigError::invalid(format!("exec of {place} {reason}")));
    if command.is_empty() {
        return wrong("has no command".to_owned());
    }
    if !API_VERSIONS.contains(&api_version.as_str()) {
        return wrong(format!("has the apiVersion {api_version:?}, not one of {}", API_VERSIONS.join(", ")));
    }
    match (interactive_mode.as_str(), api_version.ends_with("/v1beta1")) {
        ("Never" | "IfAvailable", _) | ("", true) => {}
        ("", false) => return wrong("has no interactiveMode".to_owned()),
        ("Always", _) => return wrong("has interactiveMode Always, and there is no terminal to ask at".to_owned()),
        (other, _) => return wrong(format!("has an unknown interactiveMode {other:?}")),
    }
    if env.iter().any(|variable| variable.name.is_empty()) {
        return wrong("has a variable without a name".to_owned());
    }
    let cluster = provide_cluster_info.then(|| cluster_info(cluster, tls));
    let env = env.into_iter().map(|Variable { name, value }| (name, value)).collect();
    Ok(Plugin::new(Settings { place, command, args, env, install_hint, api_version, cluster }))
}

fn cluster_info(cluster: &Cluster, tls: &TlsSettings) -> ClusterInfo {
    let extension = cluster.extensions.iter().find(|extension| extension.name == "client.authentication.k8s.io/exec");
    ClusterInfo {
        server: cluster.server.clone(),
        tls_server_name: cluster.tls_server_name.clone(),
        insecure_skip_tls_verify: cluster.insecure_skip_tls_verify,
        certificate_authority_data: tls.authorities.as_ref().map(|pem| STANDARD.encode(pem)).unwrap_or_default(),
        proxy_url: cluster.proxy_url.clone(),
        disable_compression: cluster.disable_compression,
        config: extension.map_or(Value::Null, |extension| extension.extension.clone()),
    }
}
