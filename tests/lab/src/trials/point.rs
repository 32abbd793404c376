//! A point of a story: the n-th request of a shape.

use std::collections::BTreeMap;
use std::fmt;

use crate::recorder::{Request, Rule, Target};

/// A read that a story makes again and again, while it waits, is struck at so many of its first times.
const READS: u32 = 4;
/// The same for writes: of Leases, say.
const WRITES: u32 = 6;

/// A request of a story, told apart from others by what it is and by how many of its shape came before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub shape: Shape,
    /// The first is 1.
    pub number: u32,
}

/// A kind of request: method and path, without what differs from one telling of the story to the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    fly: bool,
    method: String,
    /// `*` stands for a name or an ID. Of a query there are only the names.
    path: String,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.method, if self.fly { "Fly" } else { "Kubernetes" }, self.path)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.shape, self.number)
    }
}

impl Point {
    /// The points among these requests, in the order in which they came.
    pub fn all(requests: &[Request]) -> Vec<Point> {
        let mut counts: BTreeMap<Shape, u32> = BTreeMap::new();
        let points = requests.iter().map(|request| {
            let shape = Shape::of(request);
            let number = counts.entry(shape.clone()).or_default();
            *number += 1;
            Point { shape, number: *number }
        });
        points.filter(|point| point.number <= if point.shape.method == "GET" { READS } else { WRITES }).collect()
    }

    /// A rule without times that matches the request, and may match what is tried again after it.
    pub(super) fn rule(&self, rule: Rule) -> Rule {
        let to = if self.shape.fly { Target::Fly } else { Target::Kubernetes };
        rule.to(to).method(&self.shape.method).path(&self.shape.pattern()).skip(self.number - 1)
    }

    pub(super) fn is_of_fly(&self) -> bool {
        self.shape.fly
    }
}

impl Shape {
    fn of(request: &Request) -> Shape {
        let (path, query) = request.path.split_once('?').map_or((request.path.as_str(), None), |(p, q)| (p, Some(q)));
        let is_word = |part: &&str| part.bytes().all(|b| b.is_ascii_lowercase() || b"_.".contains(&b)) || *part == "v1";
        let parts = path.split('/').map(|part| if is_word(&part) { part } else { "*" });
        let mut path = parts.collect::<Vec<_>>().join("/");
        if let Some(query) = query {
            let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
            path.push('?');
            path.push_str(&names.collect::<Vec<_>>().join("&"));
        }
        Shape { fly: request.to == Target::Fly, method: request.method.clone(), path }
    }

    /// A regular expression for the paths of this shape.
    fn pattern(&self) -> String {
        let (path, query) = self.path.split_once('?').map_or((self.path.as_str(), None), |(p, q)| (p, Some(q)));
        let path = path.split('*').map(regex::escape).collect::<Vec<_>>().join("[^/?]+");
        let query = query.map(|query| {
            let pairs = query.split('&').map(|name| format!("{}=[^&]*", regex::escape(name)));
            format!(r"\?{}", pairs.collect::<Vec<_>>().join("&"))
        });
        format!("^{path}{}$", query.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn request(to: Target, method: &str, path: &str) -> Request {
        let [time, from, body, user_agent] = std::array::from_fn(|_| String::new());
        let (method, path) = (method.to_owned(), path.to_owned());
        Request { to, from, struck: false, time, method, path, status: None, body, user_agent }
    }

    #[test]
    fn a_shape_is_that_of_another_telling() {
        let first = "/apis/apps/v1/namespaces/lab-1-operator/deployments/lb-web-0a1b?fieldManager=x&force=true";
        let second = "/apis/apps/v1/namespaces/lab-22-operator/deployments/lb-web-9f?fieldManager=x&force=true";
        let other = "/apis/apps/v1/namespaces/lab-22-operator/deployments?fieldManager=x&force=true";
        let shape = |path| Shape::of(&request(Target::Kubernetes, "PATCH", path));
        assert_eq!(shape(first), shape(second));
        assert_eq!(
            shape(first).to_string(),
            "PATCH Kubernetes /apis/apps/v1/namespaces/*/deployments/*?fieldManager&force"
        );
        let pattern = Regex::new(&shape(first).pattern()).expect("a pattern");
        assert!(pattern.is_match(second) && !pattern.is_match(other));
        let machine = Regex::new(&shape("/v1/apps/fto-web-1/machines/0a1b2c").pattern()).expect("a pattern");
        assert!(!machine.is_match("/v1/apps/fto-web-1/machines") && !machine.is_match("/v1/apps/a/machines/b/cordon"));
    }

    #[test]
    fn points_are_counted_by_shape_and_reads_that_repeat_are_few() {
        let read = request(Target::Fly, "GET", "/v1/apps/a-1");
        let write = request(Target::Fly, "POST", "/v1/apps");
        let requests = [&read, &write, &read, &read, &read, &read, &write].map(Clone::clone);
        let points: Vec<String> = Point::all(&requests).iter().map(Point::to_string).collect();
        let read = |number| format!("GET Fly /v1/apps/* #{number}");
        let write = |number| format!("POST Fly /v1/apps #{number}");
        assert_eq!(points, [read(1), write(1), read(2), read(3), read(4), write(2)]);
    }
}
