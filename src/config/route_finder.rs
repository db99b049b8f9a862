//! Finds the route of a request, for tools that run without a gateway.

use std::path::Path;

use http::{HeaderMap, Method};

use super::interpolate::Surroundings;
use crate::pipeline::routing::table::{RouteMatch, RouteTable};

/// The routes of a configuration.
#[derive(Debug)]
pub struct RouteFinder {
    routes: RouteTable,
}

impl RouteFinder {
    /// From the text of a configuration. `Err` is the rendered list of its faults.
    pub fn parse(yaml: &str) -> Result<Self, String> {
        let surroundings = Surroundings::process();
        let reading = super::parse(Path::new("gateway.yaml"), yaml.as_bytes().to_vec(), &surroundings);
        let config = super::resolved(reading, surroundings.now).map_err(|errors| errors.render(false))?;
        Ok(Self { routes: config.routes })
    }

    /// The name of the route of a request without the header fields that conditions name. `path` is decoded; `host` is lower case, without port.
    pub fn find(&self, method: &str, host: &str, path: &str) -> Option<&str> {
        let method = Method::from_bytes(method.as_bytes()).ok()?;
        match self.routes.find(&method, host, path, &HeaderMap::new()) {
            RouteMatch::Route(_, index) => self.routes.routes().get(index).map(|route| route.name.as_str()),
            RouteMatch::MethodNotAllowed(_) | RouteMatch::Nothing | RouteMatch::UnclearField(_) => None,
        }
    }
}
