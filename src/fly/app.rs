//! Apps.

use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::error::FlyError;
use super::{Fly, encoded};

/// An App, as far as we read it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct App {
    pub name: String,
    /// Absent or empty where Fly gives none; `default` for an App without a network of its own.
    pub network: Option<String>,
    pub organization: Organization,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Organization {
    pub slug: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AppList {
    apps: Vec<App>,
}

#[derive(Serialize)]
struct CreateApp<'a> {
    name: &'a str,
    org_slug: &'a str,
    network: &'a str,
}

impl Fly {
    /// The App of that name.
    ///
    /// # Errors
    /// `NotFound`: absent, or made a moment ago. `Forbidden`: of another organisation.
    pub fn app(&self, name: &str) -> Result<App, FlyError> {
        self.get("get_app", &format!("/apps/{name}"))
    }

    /// Makes an App with a private network of its own.
    ///
    /// # Errors
    /// `NameTaken`: names are unique in all of Fly, and one may be taken by our own App that is not shown yet.
    pub fn create_app(&self, name: &str, network: &str) -> Result<(), FlyError> {
        let body = encoded(&CreateApp { name, org_slug: self.org(), network })?;
        self.call("create_app", Method::POST, "/apps", body)
    }

    /// Asks Fly to delete the App and all in it; it is gone some time later.
    ///
    /// # Errors
    /// `NotFound`: absent, or made a moment ago.
    pub fn delete_app(&self, name: &str) -> Result<(), FlyError> {
        self.call("delete_app", Method::DELETE, &format!("/apps/{name}?force=true"), Vec::new())
    }

    /// The organisation's Apps.
    ///
    /// # Errors
    /// Any but `NotFound`.
    pub fn apps(&self) -> Result<Vec<App>, FlyError> {
        let list: AppList = self.get("list_apps", &format!("/apps?org_slug={}", self.org()))?;
        Ok(list.apps)
    }

    /// Whether the organisation's list has an App of that name.
    ///
    /// # Errors
    /// Any but `NotFound`.
    pub fn lists_app(&self, name: &str) -> Result<bool, FlyError> {
        Ok(self.apps()?.iter().any(|app| app.name == name))
    }
}
