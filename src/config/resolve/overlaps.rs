//! Warnings of routes by which a caller could pass by the rules of another.

use super::Resolver;
use super::routes::RoutePlace;
use crate::pipeline::routing::overlap::{Overlap, overlaps};
use crate::pipeline::routing::table::RouteTable;

/// More would not be read; the rest is counted.
const SHOWN: usize = 20;

impl Resolver<'_> {
    pub(super) fn warn_of_overlaps(&mut self, table: &RouteTable, places: &[RoutePlace]) {
        let found = overlaps(table, SHOWN);
        for overlap in &found.shown {
            self.warn_of_overlap(overlap, places);
        }
        if found.more > 0 {
            self.warnings.push(format!("{} more pairs of routes reach the same server in this way", found.more));
        }
        if !found.all_compared {
            let message = "there are too many routes before one server to compare them all: others may overlap as well";
            self.warnings.push(message.to_owned());
        }
    }

    fn warn_of_overlap(&mut self, overlap: &Overlap, places: &[RoutePlace]) {
        // As the file writes them: out of a variable might come anything.
        let name = |index: usize| self.source.quote(places[index].name).unwrap_or_else(|| "a route".to_owned());
        let [(first, _), (second, _)] = overlap.routes;
        let lines = [first, second].map(|index| self.source.line(places[index].path));
        let names = [name(first), name(second)];
        let laxities = overlap.routes.iter().enumerate().filter_map(|(at, (_, laxity))| {
            Some(format!("{} takes requests {} that {} refuses", names[at], laxity.as_ref()?, names[1 - at]))
        });
        let laxities: Vec<String> = laxities.collect();
        let message = format!(
            "routes {} (line {}) and {} (line {}) reach the same server {} with the same path, and the caller chooses between them: {}; give both the same rules, or keep one off that path",
            names[0],
            lines[0],
            names[1],
            lines[1],
            overlap.server,
            laxities.join("; "),
        );
        self.warn(places[second].path, &message);
    }
}
