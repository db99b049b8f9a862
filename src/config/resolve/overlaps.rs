//! Warnings of routes by which a caller can bypass the rules of another route.

use super::super::lint::Lint;
use super::super::route_place::RoutePlace;
use super::Resolver;
use crate::pipeline::routing::overlap::{Overlap, overlaps};
use crate::pipeline::routing::table::RouteTable;
use crate::upstream::server::ServerAddress;

/// Further overlaps are only counted.
const SHOWN: usize = 20;

impl Resolver<'_> {
    pub(super) fn warn_of_overlaps(&mut self, table: &RouteTable, places: &[RoutePlace]) {
        let found = overlaps(table, SHOWN);
        for overlap in &found.shown {
            self.warn_of_overlap(table, overlap, places);
        }
        if found.more > 0 {
            self.warn_of_file(
                Lint::OverlappingRoutes,
                format!("{} more pairs of routes reach the same server in this way", found.more),
            );
        }
        if !found.all_compared {
            let message = "there are too many routes before one server to compare them all: others may overlap as well";
            self.warn_of_file(Lint::OverlappingRoutes, message);
        }
    }

    fn warn_of_overlap(&mut self, table: &RouteTable, overlap: &Overlap, places: &[RoutePlace]) {
        let name = |index: usize| self.route_label(places[index]);
        let [(first, _), (second, _)] = overlap.routes;
        let lines = [first, second].map(|index| self.source.line(places[index].path));
        let names = [name(first), name(second)];
        let laxities = overlap.routes.iter().enumerate().filter_map(|(at, (_, laxity))| {
            Some(format!("{} takes requests {} that {} refuses", names[at], laxity.as_ref()?, names[1 - at]))
        });
        let laxities: Vec<String> = laxities.collect();
        let message = format!(
            "routes {} (line {}) and {} (line {}) reach the same server {} with the same path, and the caller chooses between them: {}; give both the same rules, or change one of them so that it does not reach that path",
            names[0],
            lines[0],
            names[1],
            lines[1],
            configured_server(table, first, &overlap.server),
            laxities.join("; "),
        );
        self.warn(Lint::OverlappingRoutes, places[second].path, message);
    }

    pub(super) fn route_label(&self, place: RoutePlace) -> String {
        place.label(self.source)
    }
}

/// The server in the form in which an upstream of this route names it. The comparison of routes has one name for all of
/// loopback.
pub(super) fn configured_server(table: &RouteTable, route: usize, server: &str) -> String {
    let route = &table.routes()[route];
    let mirror = route.mirror.as_ref().map(|mirror| &mirror.upstream);
    let servers = route.target.upstreams().chain(mirror).flat_map(|upstream| &upstream.servers);
    let is_meant = |place: &ServerAddress| match place {
        ServerAddress::Address(address) if address.ip().is_loopback() => {
            server == format!("localhost:{}", address.port())
        }
        ServerAddress::Address(_) | ServerAddress::Name(..) | ServerAddress::Socket(_) => server == place.to_string(),
    };
    let place = servers.map(|server| &server.place).find(|place| is_meant(place));
    place.map_or_else(|| server.to_owned(), ToString::to_string)
}
