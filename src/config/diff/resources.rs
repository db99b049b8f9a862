//! The resource documents of two configurations.

use super::change::{ChangeSubject, Changes, Direction};
use super::view::AccessView;
use crate::pipeline::routing::resource::ProtectedResource;

/// Documents take precedence over routes, as other endpoints do.
pub(super) fn compare(old: &AccessView<'_>, new: &AccessView<'_>, changes: &mut Changes) {
    let subject = ChangeSubject::named(&["resources"]);
    let [before, after] = [old, new].map(|view| view.resources.all());
    let is_same_place = |one: &ProtectedResource, other: &ProtectedResource| one.identifier == other.identifier;
    for resource in &after {
        let url = &resource.identifier.metadata_url;
        match before.iter().find(|other| is_same_place(other, resource)) {
            None => changes.add(Direction::Unclear, &subject, format!("a resource is described at {url}")),
            Some(other) if other.description != resource.description => {
                changes.add(Direction::Changed, &subject, format!("the resource document at {url} has other content"));
            }
            Some(_) => {}
        }
    }
    for resource in before.iter().filter(|one| !after.iter().any(|other| is_same_place(one, other))) {
        let text = format!("no resource is described at {} any more", resource.identifier.metadata_url);
        changes.add(Direction::Unclear, &subject.clone().of_old(), text);
    }
}
