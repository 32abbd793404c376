//! The real Fly: each method is one request.

use std::net::IpAddr;

use kube_client_lite::web_tls;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use ureq::http::Method;
use ureq::tls::TlsConfig;

use super::error::{ErrorKind, FlyError};
use super::http::{Http, Operation, encoded};
pub use super::http::{IDLE_CONNECTIONS, USER_AGENT};
use super::token::TokenSource;
use super::{App, Fly, ListedMachines};
use crate::render::address::Assignment;
use crate::render::machine::wire::{ListedMachine, Machine, NewMachine};
use crate::render::null_is_default;
use crate::tunnel::observed::Family;

/// Where Fly is, who we are there, and by what right.
#[derive(Clone)]
pub struct FlyConfig {
    pub url: String,
    pub org: String,
    pub token: TokenSource,
}

/// A client for one organisation. Cheap to share between threads.
pub struct Client {
    org: String,
    http: Http,
}

#[derive(Deserialize)]
struct AppList {
    /// It must be there: a reply without it is no list, and must not be taken for an empty one.
    #[serde(deserialize_with = "null_is_default")]
    apps: Vec<ListedApp>,
    #[serde(default)]
    total_apps: Option<usize>,
}

/// A page of the Machines of an organisation.
#[derive(Deserialize)]
struct MachinePage {
    /// It must be there, as in a list of Apps.
    #[serde(deserialize_with = "null_is_default")]
    machines: Vec<Listed>,
    #[serde(default, deserialize_with = "null_is_default")]
    next_cursor: String,
    #[serde(default, deserialize_with = "null_is_default")]
    error_regions: Vec<IgnoredAny>,
}

/// A Machine of the organisation. One that cannot be read hides no other.
#[derive(Deserialize)]
#[serde(untagged)]
enum Listed {
    Whole(ListedMachine),
    Other(IgnoredAny),
}

impl Listed {
    fn machine(self) -> Option<ListedMachine> {
        match self {
            Listed::Whole(machine) => Some(machine),
            Listed::Other(_) => None,
        }
    }
}

/// A page of Machines is some 200 KiB of text, which is held as a whole while it is read.
const MACHINES_PER_PAGE: usize = 200;

/// A list of more pages goes round in circles.
const MOST_PAGES: usize = 1_000;

/// An App of the organisation, whoever made it. One that cannot be read hides no other, and is there all the same.
#[derive(Deserialize)]
#[serde(untagged)]
enum ListedApp {
    Whole(App),
    Named { name: String },
    Other(IgnoredAny),
}

impl ListedApp {
    /// The App; `None` where not even its name can be read.
    fn app(self) -> Option<App> {
        match self {
            ListedApp::Whole(app) => Some(app),
            ListedApp::Named { name } => Some(App { name, ..App::default() }),
            ListedApp::Other(_) => None,
        }
    }
}

#[derive(Serialize)]
struct CreateApp<'a> {
    name: &'a str,
    org_slug: &'a str,
    network: &'a str,
}

#[derive(Deserialize)]
struct Assignments {
    /// It must be there, as in a list of Apps.
    #[serde(deserialize_with = "null_is_default")]
    ips: Vec<Assignment>,
}

#[derive(Serialize)]
struct Allocate {
    r#type: &'static str,
}

#[derive(Serialize)]
struct Value<'a> {
    value: &'a str,
}

impl Client {
    /// A client whose requests take no longer than `timeout`; nothing is sent yet. `count` is told of each request: its
    /// operation, its result (`success`, or [`FlyError::name`]), and how long it took.
    ///
    /// # Errors
    /// Fly is to be asked by HTTPS, and this system has no certificate authorities by which it could prove itself.
    pub fn new(
        config: FlyConfig,
        timeout: std::time::Duration,
        count: impl Fn(Operation, &'static str, std::time::Duration) + Send + Sync + 'static,
    ) -> Result<Client, String> {
        let tls = match web_tls() {
            Some(tls) => tls,
            None if config.url.starts_with("http:") => TlsConfig::default(),
            None => {
                return Err("there is no file of certificate authorities, so Fly cannot prove itself: install ca-certificates, or \
                            name such a file by SSL_CERT_FILE"
                    .into());
            }
        };
        Ok(Client { org: config.org, http: Http::new(config.url, config.token, tls, timeout, Box::new(count)) })
    }

    fn machine_action(&self, operation: Operation, app: &str, id: &str, action: &str) -> Result<(), FlyError> {
        self.http.call(operation, Method::POST, &format!("/apps/{app}/machines/{id}/{action}"), Vec::new())
    }
}

impl Fly for Client {
    fn org(&self) -> &str {
        &self.org
    }

    fn app(&self, name: &str) -> Result<App, FlyError> {
        self.http.get("get_app", &format!("/apps/{name}"))
    }

    fn create_app(&self, name: &str, network: &str) -> Result<(), FlyError> {
        let body = encoded(&CreateApp { name, org_slug: &self.org, network })?;
        self.http.call("create_app", Method::POST, "/apps", body)
    }

    fn delete_app(&self, name: &str) -> Result<(), FlyError> {
        self.http.call("delete_app", Method::DELETE, &format!("/apps/{name}?force=true"), Vec::new())
    }

    fn apps(&self) -> Result<Vec<App>, FlyError> {
        let list: AppList = self.http.get("list_apps", &format!("/apps?org_slug={}", self.org))?;
        // An App that is left out must not be taken for one that is gone.
        if list.total_apps.is_some_and(|total| total > list.apps.len()) {
            return Err(ErrorKind::Unavailable("its list of Apps is not whole".into()).into());
        }
        Ok(list.apps.into_iter().filter_map(ListedApp::app).collect())
    }

    fn machines_of_all_apps(&self) -> Result<ListedMachines, FlyError> {
        let mut all = ListedMachines { machines: Vec::new(), complete: true };
        let mut cursor = String::new();
        for _ in 0..MOST_PAGES {
            let path = format!("/orgs/{}/machines?limit={MACHINES_PER_PAGE}&cursor={cursor}", self.org);
            let page: MachinePage = self.http.get("list_machines_of_organisation", &path)?;
            all.machines.extend(page.machines.into_iter().filter_map(Listed::machine));
            all.complete &= page.error_regions.is_empty();
            if page.next_cursor.is_empty() {
                return Ok(all);
            }
            cursor = page.next_cursor;
        }
        Err(ErrorKind::Unavailable("its list of Machines does not end".into()).into())
    }

    fn addresses(&self, app: &str) -> Result<Vec<Assignment>, FlyError> {
        let list: Assignments = self.http.get("list_addresses", &format!("/apps/{app}/ip_assignments"))?;
        Ok(list.ips)
    }

    fn allocate(&self, app: &str, family: Family) -> Result<Assignment, FlyError> {
        let r#type = match family {
            Family::V4 => "v4",
        };
        self.http.post("allocate_address", &format!("/apps/{app}/ip_assignments"), &Allocate { r#type })
    }

    fn release(&self, app: &str, ip: IpAddr) -> Result<(), FlyError> {
        let path = format!("/apps/{app}/ip_assignments/{ip}");
        gone(self.http.call("release_address", Method::DELETE, &path, Vec::new()))
    }

    fn machines(&self, app: &str) -> Result<Vec<Machine>, FlyError> {
        self.http.get("list_machines", &format!("/apps/{app}/machines"))
    }

    fn machine(&self, app: &str, id: &str) -> Result<Machine, FlyError> {
        self.http.get("get_machine", &format!("/apps/{app}/machines/{id}"))
    }

    fn create_machine(&self, app: &str, machine: &NewMachine) -> Result<Machine, FlyError> {
        self.http.post("create_machine", &format!("/apps/{app}/machines"), machine)
    }

    fn start_machine(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.machine_action("start_machine", app, id, "start")
    }

    fn cordon(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.machine_action("cordon_machine", app, id, "cordon")
    }

    fn uncordon(&self, app: &str, id: &str) -> Result<(), FlyError> {
        self.machine_action("uncordon_machine", app, id, "uncordon")
    }

    fn destroy_machine(&self, app: &str, id: &str) -> Result<(), FlyError> {
        let path = format!("/apps/{app}/machines/{id}?force=true");
        gone(self.http.call("destroy_machine", Method::DELETE, &path, Vec::new()))
    }

    fn set_metadata(&self, app: &str, id: &str, key: &str, value: &str) -> Result<(), FlyError> {
        let path = format!("/apps/{app}/machines/{id}/metadata/{key}");
        self.http.call("set_metadata", Method::POST, &path, encoded(&Value { value })?)
    }

    fn delete_metadata(&self, app: &str, id: &str, key: &str) -> Result<(), FlyError> {
        let path = format!("/apps/{app}/machines/{id}/metadata/{key}");
        gone(self.http.call("delete_metadata", Method::DELETE, &path, Vec::new()))
    }
}

/// A thing that is to go and is not there is a success.
fn gone(result: Result<(), FlyError>) -> Result<(), FlyError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_cannot_be_read_hides_no_other_and_a_reply_without_a_list_is_none() {
        let list: AppList = serde_json::from_str(
            r#"{"total_apps":4,"apps":[{"name":"a","network":null,"organization":{"slug":"o"}},
                {"name":"b","organization":null},{"name":7},{"name":"d","network":"n"}]}"#,
        )
        .expect("a list");
        let names: Vec<String> = list.apps.into_iter().filter_map(ListedApp::app).map(|app| app.name).collect();
        assert_eq!(names, ["a", "b", "d"]);
        assert!(serde_json::from_str::<AppList>(r#"{"apps":null}"#).is_ok_and(|list| list.apps.is_empty()));
        for none in ["{}", r#"{"total_apps":0}"#, r#"{"apps":{}}"#, "[]", "null"] {
            assert!(serde_json::from_str::<AppList>(none).is_err(), "{none}");
        }
        assert!(serde_json::from_str::<Assignments>("{}").is_err());
    }

    #[test]
    fn null_is_an_empty_list() {
        let machine: Machine = serde_json::from_str(
            r#"{"id":"m1","state":"started","checks":null,"config":{"files":null,"metadata":null,
                "services":[{"ports":null,"checks":null}]}}"#,
        )
        .expect("a Machine");
        assert_eq!((machine.id.as_str(), machine.checks.len()), ("m1", 0));
        assert_eq!(machine.config.expect("it is there").services.len(), 1);
    }
}
