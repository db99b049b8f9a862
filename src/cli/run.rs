//! `portcullis run`.

use std::process::ExitCode;

use tracing::info;

use super::start::cannot_start;
use super::terminal::{bad_config, failed};
use super::{ConfigPath, test};
use crate::app::process_hardening::harden_process;
use crate::app::{App, Control};
use crate::config;
use crate::config::interpolate::Surroundings;
use crate::telemetry::logs;

pub(super) fn run(args: &ConfigPath) -> ExitCode {
    logs::start();
    harden_process();
    let control = match Control::start() {
        Ok(control) => control,
        Err(error) => return failed(&error),
    };
    let config = match config::load(&args.config, &Surroundings::process()) {
        Ok(config) => config,
        Err(errors) => return bad_config(&errors),
    };
    if let Err(code) = test::must_pass(&config) {
        return code;
    }
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    config.ended_certificates.iter().for_each(|ended| tracing::warn!("{ended}"));
    let (workers, id) = (config.workers, config.id.clone());
    let control_addresses = config.control_addresses();
    let app = match App::open(config, Some(args.config.clone()), control) {
        Ok(app) => app,
        Err(error) => return cannot_start(&error, &control_addresses),
    };
    let (addresses, admin, probes) = (app.addresses().to_vec(), app.admin_address(), app.probes_address());
    let started = || {
        for address in addresses {
            info!(%address, "listening");
        }
        if let Some(address) = admin {
            info!(%address, "admin listening");
        }
        if let Some(address) = probes {
            info!(%address, "probes listening");
        }
        info!(workers, config = id, "serving");
    };
    match app.run(started) {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}
