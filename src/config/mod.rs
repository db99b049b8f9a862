//! `gateway.yaml` → runtime types.
#![expect(dead_code, reason = "nothing reads the config yet")]

mod diagnostics;
mod oddity;
mod secrecy;
mod source;
mod suggest;
mod syntax;
mod tree;
