//! Upstreams that a configuration defines as the one before are taken over: with their connections, their health, their
//! ejections and their circuit breakers. The known addresses of names are taken over in any case.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::types::Config;
use crate::upstream::names::Name;
use crate::upstream::service::Upstream;

pub(super) fn take_over(before: &[Arc<Upstream>], config: &mut Config) {
    let by_name: HashMap<&str, &Arc<Upstream>> = before.iter().map(|upstream| (&*upstream.name, upstream)).collect();
    let mut names: HashMap<&str, &Arc<Name>> = HashMap::new();
    names.extend(before.iter().flat_map(|upstream| upstream.names()).map(|name| (name.as_str(), name)));
    for upstream in &mut config.upstreams {
        match by_name.get(&*upstream.name).filter(|known| known.is_defined_as(upstream)) {
            Some(same) => *upstream = Arc::clone(same),
            None => {
                let known = |name: &str| names.get(name).map(|name| Arc::clone(name));
                upstream.with_names(known).into_iter().for_each(|renamed| *upstream = Arc::new(renamed));
            }
        }
    }
    for name in &mut config.names {
        names.get(name.as_str()).into_iter().for_each(|known| *name = Arc::clone(known));
    }
    let by_name: HashMap<&str, &Arc<Upstream>> =
        config.upstreams.iter().map(|upstream| (&*upstream.name, upstream)).collect();
    config.routes.replace_upstreams(|upstream| {
        if let Some(known) = by_name.get(&*upstream.name) {
            *upstream = Arc::clone(known);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::config::interpolate::Surroundings;

    fn config(upstreams: &str) -> Config {
        let text = format!(
            "version: 1\nlisteners: [{{address: 127.0.0.1:0}}]\naudit: {{file: \"-\"}}\nupstreams: {{{upstreams}}}\n\
             routes:\n  - {{path: /a, upstream: a, access: public, mirror: {{upstream: b, percent: 1}}}}\n  \
             - {{path: /b, upstream: {{a: 1, b: 1}}, access: public}}\n"
        );
        config::load_text(Path::new("/nowhere/gateway.yaml"), text, &Surroundings::process())
            .unwrap_or_else(|errors| panic!("{}", errors.render(false)))
    }

    fn upstream<'c>(config: &'c Config, name: &str) -> &'c Arc<Upstream> {
        config.upstreams.iter().find(|upstream| &*upstream.name == name).unwrap()
    }

    #[test]
    fn an_upstream_that_is_defined_alike_lives_on_in_every_route() {
        let first = config("a: \"http://a.internal:1\", b: \"http://b.internal:1\"");
        let mut second = config("b: \"http://b.internal:1\", a: {servers: [\"http://a.internal:1\"], via: false}");
        take_over(&first.upstreams, &mut second);
        assert_eq!(upstream(&first, "b").number, upstream(&second, "b").number);
        assert_ne!(upstream(&first, "a").number, upstream(&second, "a").number);
        let used = |config: &Config| -> Vec<u64> {
            let routes = config.routes.routes().iter();
            let of_route = |route: &Arc<crate::pipeline::routing::route::Route>| {
                let mirror = route.mirror.as_ref().map(|mirror| mirror.upstream.number);
                route.target.upstreams().map(|upstream| upstream.number).chain(mirror).collect::<Vec<_>>()
            };
            routes.flat_map(of_route).collect()
        };
        let [a, b] = ["a", "b"].map(|name| upstream(&second, name).number);
        assert_eq!(used(&second), [a, b, a, b]);
        let names = |config: &Config, name| upstream(config, name).names().map(Arc::as_ptr).collect::<Vec<_>>();
        assert_eq!(names(&first, "a"), names(&second, "a"), "addresses of names are known on");
        assert!(
            second
                .names
                .iter()
                .all(|name| { ["a", "b"].iter().any(|upstream| names(&first, upstream).contains(&Arc::as_ptr(name))) })
        );
    }
}
